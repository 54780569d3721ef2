{# Upper bounds of the classes of wait and duration of jobs, in milliseconds; one more class is open above. Sums of classes give
   percentiles of any range; a percentile is off by less than the width of its class. Changing them changes what is stored. #}
{% macro queue_bounds() -%}
    {{ return([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 30000, 60000, 120000, 300000, 600000, 1800000,
               3600000, 7200000, 14400000, 28800000, 86400000]) }}
{%- endmacro %}

{# Class of so many milliseconds, from 0; null for none. #}
{% macro queue_class(milliseconds) -%}
    width_bucket(({{ milliseconds }})::bigint, array[{{ queue_bounds() | join(', ') }}]::bigint[])
{%- endmacro %}

{# Rows by class as an array, the shortest class first. #}
{% macro queue_classes(class_column) -%}
    array[
        {%- for number in range(queue_bounds() | length + 1) %}
        (count(*) filter (where {{ class_column }} = {{ number }}))::integer{{ ',' if not loop.last }}
        {%- endfor %}
    ]
{%- endmacro %}

{# Lower and upper bound of a class, in milliseconds. Nothing in the open one is taken for longer than a week. #}
{% macro queue_class_from(number) -%}
    coalesce((array[{{ queue_bounds() | join(', ') }}]::bigint[])[{{ number }}], 0)
{%- endmacro %}
{% macro queue_class_to(number) -%}
    coalesce((array[{{ queue_bounds() | join(', ') }}]::bigint[])[{{ number }} + 1], 7 * 86400000::bigint)
{%- endmacro %}

{# Select of the figures of queue_analytics by some expressions: [(expression, name), ...]. Percentiles are read from the summed
   classes, straight between the bounds of one. #}
{% macro queue_figures(keys) -%}
    {%- set names = keys | map(attribute=1) | join(', ') -%}
with facts as (

    select
        {%- for expression, name in keys %}
        {{ expression }} as {{ name }},
        {%- endfor %}
        attempts, completed, failed, retried, dead_lettered, ended_after_retry, waits, wait_ms, duration_ms, failed_duration_ms,
        wait_classes, duration_classes
    from {{ ref('queue_analytics') }}

),

totals as (

    select
        {{ names }},
        sum(attempts)::bigint as attempts,
        sum(completed)::bigint as completed,
        sum(failed)::bigint as failed,
        sum(retried)::bigint as retried,
        sum(dead_lettered)::bigint as dead_lettered,
        sum(ended_after_retry)::bigint as ended_after_retry,
        sum(waits)::bigint as waits,
        sum(wait_ms)::bigint as wait_ms,
        sum(duration_ms)::bigint as duration_ms,
        sum(failed_duration_ms)::bigint as failed_duration_ms
    from facts
    group by {{ names }}

),

classes as (

    select {{ names }}, c.class - 1 as class, sum(c.waits) as waits, sum(c.durations) as durations
    from facts
    cross join lateral unnest(wait_classes, duration_classes) with ordinality as c (waits, durations, class)
    group by {{ names }}, c.class

),

ranked as (

    select
        *,
        sum(waits) over everything as all_waits, sum(waits) over in_order as waits_so_far,
        sum(durations) over everything as all_durations, sum(durations) over in_order as durations_so_far
    from classes
    window everything as (partition by {{ names }}), in_order as (partition by {{ names }} order by class)

),

percentiles as (

    select
        {{ names }}
        {%- for kind in ['waits', 'durations'] %}
        {%- for p in [50, 95, 99] %},
        round(min(
            {{ queue_class_from('class') }} + ({{ queue_class_to('class') }} - {{ queue_class_from('class') }})
            * ({{ p }} / 100.0 * all_{{ kind }} - ({{ kind }}_so_far - {{ kind }})) / nullif({{ kind }}, 0)
        ) filter (
            where {{ kind }}_so_far >= {{ p }} / 100.0 * all_{{ kind }} and {{ kind }}_so_far - {{ kind }} < {{ p }} / 100.0 * all_{{ kind }}
        ))::bigint as {{ kind[:-1] }}_p{{ p }}_ms
        {%- endfor %}
        {%- endfor %}
    from ranked
    group by {{ names }}

)

select
    {{ names }},
    attempts,
    completed,
    failed,
    retried,
    dead_lettered,
    completed + dead_lettered as ended,
    round(wait_ms::numeric / nullif(waits, 0))::bigint as wait_mean_ms,
    wait_p50_ms,
    wait_p95_ms,
    wait_p99_ms,
    round(duration_ms::numeric / nullif(attempts, 0))::bigint as duration_mean_ms,
    duration_p50_ms,
    duration_p95_ms,
    duration_p99_ms,
    {{ rate('failed', 'attempts') }} as attempt_failure_rate,
    {{ rate('dead_lettered', 'completed + dead_lettered') }} as failure_rate,
    {{ rate('ended_after_retry', 'completed + dead_lettered') }} as retry_rate,
    {{ data_as_of(['queue']) }} as data_as_of
from totals
inner join percentiles using ({{ names }})
{%- endmacro %}
