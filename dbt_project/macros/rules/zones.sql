{# Time zone of the viewer: `set local app.time_zone = 'Asia/Kathmandu'`, else UTC. It moves labels of hours, never sums. An hour of
   UTC goes to the local hour in which it begins, also where zones differ by parts of an hour. #}
{% macro viewer_zone() -%}
    coalesce(nullif(current_setting('app.time_zone', true), ''), 'UTC')
{%- endmacro %}
