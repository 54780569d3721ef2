{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'campaign_id', 'month'],
    touched='touched_campaign_months',
    online_date='month',
    meta={'owner': 'data platform', 'dagster': {'group': 'campaigns'}}
) }}

with days as (

    {{ days_of_months('campaign_analytics', ['tenant_id', 'campaign_id'], touched_campaign_months()) }}

)

select
    tenant_id,
    (array_agg(company_id order by activity_date desc))[1] as company_id,
    campaign_id,
    month,
    {{ message_counters() }},
    count(*)::integer as active_days,
    (array_agg(leads_total order by activity_date desc))[1] as leads_total,
    (array_agg(completed_leads order by activity_date desc))[1] as completed_leads,
    {{ is_final(last_day_of('month')) }} as is_final
from days
group by tenant_id, campaign_id, month
