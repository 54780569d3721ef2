{{ config(
    materialized='materialized_view',
    on_configuration_change='apply',
    indexes=[{'columns': ['tenant_id', 'campaign_id'], 'unique': true}],
    grants={'select': ['pm_analyst', 'pm_staff']},
    meta={'refresh_concurrently': true, 'owner': 'data platform', 'dagster': {'group': 'campaigns'}}
) }}

with totals as (

    select
        tenant_id,
        campaign_id,
        (array_agg(company_id order by activity_date desc))[1] as company_id,
        min(activity_date) as first_activity,
        max(activity_date) as last_activity,
        {{ message_counters() }},
        (array_agg(leads_total order by activity_date desc))[1] as leads_total,
        (array_agg(completed_leads order by activity_date desc))[1] as completed_leads,
        bool_and(is_final) as is_final,
        max(updated) as updated
    from {{ ref('campaign_analytics') }}
    group by tenant_id, campaign_id

)

select
    totals.tenant_id,
    totals.company_id,
    companies.name as company_name,
    totals.campaign_id,
    campaigns.name as campaign_name,
    campaigns.status as campaign_status,
    totals.first_activity,
    totals.last_activity,
    {{ counters('totals') }},
    totals.completed_leads,
    round(extract(epoch from campaigns.completed - campaigns.started) / 3600, 2) as campaign_duration_hours,
    {{ rates() }},
    totals.updated,
    {{ rate('totals.soft_bounced', 'totals.sent') }} as soft_bounce_rate,
    totals.leads_total,
    {{ rate('totals.completed_leads', 'totals.leads_total') }} as completion_rate,
    totals.is_final,
    {{ data_as_of() }} as data_as_of,
    -- About whoever sends: this campaign and the two of the workspace that started before it.
    {{ alert_of(warning='count(*) filter (where totals.sent >= ' ~ var('alert_minimum_sends')
        ~ ' and ' ~ rate('totals.opened_tracked', 'totals.delivered') ~ ' < 10) over three_campaigns = 3') }} as open_alert
from totals
left join {{ ref('dim_campaigns') }} as campaigns
    on totals.tenant_id = campaigns.tenant_id and totals.campaign_id = campaigns.campaign_id
left join {{ ref('dim_companies') }} as companies
    on totals.tenant_id = companies.tenant_id and totals.company_id = companies.company_id
window three_campaigns as (
    partition by totals.tenant_id, totals.company_id
    order by coalesce({{ utc_date('campaigns.started') }}, totals.first_activity), campaigns.started, totals.campaign_id
    rows between 2 preceding and current row
)
