{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

with days as (

    select
        f.tenant_id,
        f.company_id,
        f.campaign_id,
        campaigns.name as campaign_name,
        f.activity_date,
        {{ counters('f') }},
        f.status as campaign_status,
        f.leads_total,
        f.active_leads,
        f.completed_leads,
        f.is_final,
        {{ rates() }},
        {{ rate('f.soft_bounced', 'f.sent') }} as soft_bounce_rate,
        {{ rate('f.completed_leads', 'f.leads_total') }} as completion_rate,
        {{ data_as_of() }} as data_as_of
    from {{ ref('campaign_analytics') }} as f
    left join {{ ref('dim_campaigns') }} as campaigns
        on f.tenant_id = campaigns.tenant_id and f.campaign_id = campaigns.campaign_id

),

alerted as (

    select
        *,
        {{ mail_alerts() }}
    from days

)

select
    *,
    {{ most_serious(['bounce_alert', 'spam_alert', 'unsubscribe_alert', 'delivery_alert']) }} as alert_level
from alerted
