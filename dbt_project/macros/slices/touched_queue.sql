{# Hours of the queue that a build must count anew. #}

{# (event_hour) in which an attempt began whose line is new, changed or gone. #}
{% macro touched_queue_hours() -%}
    select distinct event_hour from {{ slices() }} as s where s.kind = 'hour' and s.cause = 'queue.job_logs'
{%- endmacro %}
