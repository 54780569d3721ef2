{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

select
    totals.tenant_id,
    totals.lead_id,
    totals.campaigns,
    {{ counters('totals') }},
    totals.points,
    {{ decayed_score('totals.points', 'coalesce(totals.last_engaged, totals.last_sent)', 'clock.data_as_of') }} as lead_score,
    {{ is_hot('totals.points', 'coalesce(totals.last_engaged, totals.last_sent)', 'clock.data_as_of') }} as is_hot,
    totals.first_sent,
    totals.last_sent,
    totals.last_engaged,
    {{ is_final_as_of(utc_date('totals.last_sent'), 'clock.data_as_of') }} as is_final,
    clock.data_as_of
from {{ ref('int_lead_totals') }} as totals
cross join (select {{ data_as_of() }} as data_as_of) as clock
