{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

-- What a tenant may know of the addresses that carried its mail: its own results there, never their price or others.
select
    f.tenant_id,
    f.smtp_ip_address_id,
    addresses.ip_address,
    f.activity_date,
    {{ counters('f') }},
    f.ip_status,
    f.reputation_state,
    f.reputation_score,
    f.blacklist_count,
    f.is_final,
    {{ rates() }},
    {{ data_as_of() }} as data_as_of
from {{ ref('infrastructure_analytics') }} as f
left join {{ ref('int_ip_addresses') }} as addresses on f.smtp_ip_address_id = addresses.smtp_ip_address_id
where f.tenant_id is not null
