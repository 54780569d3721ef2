{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

select
    d.tenant_id,
    d.company_id,
    nullif(d.campaign_id, {{ nobody() }}) as campaign_id,
    campaigns.name as campaign_name,
    d.mailbox_id,
    nullif(d.domain_id, {{ nobody() }}) as domain_id,
    d.activity_date,
    d.permanence,
    d.subject,
    d.fault,
    d.bounced,
    d.hard_bounced,
    {{ is_final_as_of('d.activity_date', 'clock.data_as_of') }} as is_final,
    clock.data_as_of
from {{ ref('int_bounce_days') }} as d
cross join (select {{ data_as_of() }} as data_as_of) as clock
left join {{ ref('dim_campaigns') }} as campaigns
    on d.tenant_id = campaigns.tenant_id and d.campaign_id = campaigns.campaign_id
