{{ config(
    materialized='incremental', incremental_strategy='slices', full_refresh=false,
    unique_key=['day'], touched='touched_calendar_days', keep_when='true',
    indexes=[{'columns': ['day'], 'unique': true}]
) }}

{%- set known = earlier('intermediate', 'int_calendar_days') %}

-- depends_on: {{ ref('int_touched_messages') }}, {{ ref('campaign_analytics') }}
-- Every UTC day from the first revenue or mail to the day of the build: the clock of views, which must not ask for now().
with beginnings as (

    select min({{ utc_date('valid_from') }}) as day from {{ ref('int_mrr_changes') }}
    union all
    {%- if known is none or is_full_build() %}
    select min(activity_date) from {{ ref('campaign_analytics') }}
    {%- else %}
    select min(activity_date) from {{ ref('int_touched_messages') }} where activity_date >= {{ online_from() }}
    union all
    select min(day) from {{ known }}
    {%- endif %}

)

select days.day::date as day
from (select coalesce(min(day), {{ as_of_date() }}) as day from beginnings) as first
cross join lateral generate_series(first.day, {{ as_of_date() }}, interval '1 day') as days (day)
