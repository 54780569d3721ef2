{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

select
    f.tenant_id,
    f.company_id,
    f.campaign_id,
    campaigns.name as campaign_name,
    f.lead_id,
    {{ counters('f') }},
    f.status,
    f.lead_score as points,
    {{ decayed_score('f.lead_score', 'coalesce(f.last_engaged, f.last_sent)', 'clock.data_as_of') }} as lead_score,
    {{ is_hot('f.lead_score', 'coalesce(f.last_engaged, f.last_sent)', 'clock.data_as_of') }} as is_hot,
    f.first_sent,
    f.last_sent,
    f.last_engaged,
    {{ ratio('f.opens_total', 'f.opened_tracked') }} as opens_per_opened_message,
    {{ is_final_as_of(utc_date('f.last_sent'), 'clock.data_as_of') }} as is_final,
    clock.data_as_of
from {{ ref('lead_analytics') }} as f
cross join (select {{ data_as_of() }} as data_as_of) as clock
left join {{ ref('dim_campaigns') }} as campaigns
    on f.tenant_id = campaigns.tenant_id and f.campaign_id = campaigns.campaign_id
