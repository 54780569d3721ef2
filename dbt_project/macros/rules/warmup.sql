{# Warmup health H2 from the sums of seven days; null for too few days with mail. #}
{% macro warmup_health(days, sent, delivered, opened, clicked, bounced, spam_complaints) -%}
    case when {{ days }} >= {{ var('warmup_minimum_days') }} then floor(least(100, greatest(0,
        100
        - 10 * coalesce(100.0 * {{ bounced }} / nullif({{ sent }}, 0), 0)
        - 50 * coalesce(100.0 * {{ spam_complaints }} / nullif({{ delivered }}, 0), 0)
        + 20 * coalesce(1.0 * {{ opened }} / nullif({{ delivered }}, 0), 0)
        + 10 * coalesce(1.0 * {{ clicked }} / nullif({{ delivered }}, 0), 0)
    )))::smallint end
{%- endmacro %}

{% macro warmup_band(score) -%}
    case
        when {{ score }} is null then null
        when {{ score }} >= 80 then 'excellent'
        when {{ score }} >= 60 then 'good'
        when {{ score }} >= 40 then 'warning'
        else 'critical'
    end
{%- endmacro %}

{# Messages that a plan wants on one of its days; null before the first and after the last. #}
{% macro planned_volume(day, total_days, start_volume, target_volume) -%}
    case when {{ day }} between 1 and {{ total_days }}
        then round({{ start_volume }} + ({{ target_volume }} - {{ start_volume }})::numeric / {{ total_days }} * {{ day }})::integer
    end
{%- endmacro %}
