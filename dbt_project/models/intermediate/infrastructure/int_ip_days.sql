{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'smtp_ip_address_id', 'activity_date'],
    touched='touched_ip_traffic',
    indexes=[
        {'columns': ['tenant_id', 'smtp_ip_address_id', 'activity_date'], 'unique': true},
        {'columns': ['activity_date', 'smtp_ip_address_id']}
    ]
) }}

with messages as (

    {{ messages_of(
        ['tenant_id', 'smtp_ip_address_id', 'activity_date'], touched_ip_traffic,
        {'smtp_ip_address_id': 'coalesce(m.smtp_ip_address_id, ' ~ nobody() ~ ')'}
    ) }}
    where not m.is_warmup

)

select
    tenant_id,
    coalesce(smtp_ip_address_id, {{ nobody() }}) as smtp_ip_address_id,
    activity_date,
    {{ message_counters() }}
from messages
group by tenant_id, coalesce(smtp_ip_address_id, {{ nobody() }}), activity_date
