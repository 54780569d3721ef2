-- Fails if a campaign day differs from the sum of its steps.
{{ config(meta={'dagster': {'ref': {'name': 'campaign_analytics'}}}) }}
with steps as (

    select f.tenant_id, f.campaign_id, f.activity_date, {{ message_counters('f') }}
    from {{ ref('sequence_step_analytics') }} as f
    where {{ touched_days_only('f') }}
    group by f.tenant_id, f.campaign_id, f.activity_date

),

campaigns as (

    select f.*
    from {{ ref('campaign_analytics') }} as f
    where {{ touched_days_only('f') }}

)

select
    coalesce(steps.tenant_id, campaigns.tenant_id) as tenant_id,
    coalesce(steps.campaign_id, campaigns.campaign_id) as campaign_id,
    coalesce(steps.activity_date, campaigns.activity_date) as activity_date
from steps
full join campaigns
    on steps.tenant_id = campaigns.tenant_id and steps.campaign_id = campaigns.campaign_id
    and steps.activity_date = campaigns.activity_date
where {{ counters_differ('steps', 'campaigns') }}
