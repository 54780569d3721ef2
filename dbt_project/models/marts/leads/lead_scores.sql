{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

-- A person over all campaigns of the tenant: points add up, and whoever unsubscribed anywhere has none.
with leads as (

    select
        tenant_id,
        lead_id,
        count(*)::integer as campaigns,
        {{ message_counters() }},
        min(first_sent) as first_sent,
        max(last_sent) as last_sent,
        max(last_engaged) as last_engaged
    from {{ ref('lead_analytics') }}
    group by tenant_id, lead_id

),

scored as (

    select
        *,
        {{ lead_points('opened_tracked', 'clicked_tracked', 'replied', 'bounced', 'spam_complaints', 'unsubscribed') }} as points
    from leads

)

select
    scored.tenant_id,
    scored.lead_id,
    scored.campaigns,
    {{ counters('scored') }},
    scored.points,
    {{ decayed_score('scored.points', 'coalesce(scored.last_engaged, scored.last_sent)', 'clock.data_as_of') }} as lead_score,
    {{ is_hot('scored.points', 'coalesce(scored.last_engaged, scored.last_sent)', 'clock.data_as_of') }} as is_hot,
    scored.first_sent,
    scored.last_sent,
    scored.last_engaged,
    {{ is_final_as_of(utc_date('scored.last_sent'), 'clock.data_as_of') }} as is_final,
    clock.data_as_of
from scored
cross join (select {{ data_as_of() }} as data_as_of) as clock
