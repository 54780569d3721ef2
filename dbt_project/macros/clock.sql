{# Every comparison with the clock goes through here, so that one build has one time and tests can pin it: the variable,
   else the setting that lib/build.py gives the session, else the start of the run. Not a variable there: a changed variable
   makes dbt parse the whole project again. #}
{% macro as_of() -%}
    {%- if var('as_of') -%}
    timestamptz '{{ var("as_of") }}'
    {%- else -%}
    coalesce(nullif(current_setting('penguin.as_of', true), ''), '{{ run_started_at.isoformat() }}')::timestamptz
    {%- endif -%}
{%- endmacro %}

{% macro as_of_date() -%}
    {{ utc_date(as_of()) }}
{%- endmacro %}

{# UTC day of a time stamp, whatever the time zone of the session. #}
{% macro utc_date(expression) -%}
    (({{ expression }}) at time zone 'UTC')::date
{%- endmacro %}

{# Midnight UTC at the start of a day. #}
{% macro utc_start(expression) -%}
    (({{ expression }})::timestamp at time zone 'UTC')
{%- endmacro %}

{# True once late events are no longer expected for a day. #}
{% macro is_final(date_column) -%}
    ({{ date_column }} <= {{ as_of_date() }} - {{ var('final_after_days') }})
{%- endmacro %}

{# First day that is kept online; older partitions are archived and must not come back. #}
{% macro online_from() -%}
    (date_trunc('month', {{ as_of_date() }}) - interval '{{ var("fact_months") }} months')::date
{%- endmacro %}

{# Moment as of which the figures hold: the older read of the sources that they come from, those of mail unless others are
   named. The clock of views over time, so that none of them reads the real one. #}
{% macro data_as_of(sources=['oltp', 'content']) -%}
    (
        select min(fresh.data_as_of) from {{ ref('data_freshness') }} as fresh
        where fresh.source in ('{{ sources | join("', '") }}')
    )
{%- endmacro %}
