{# Upper bounds of the classes of delay, in seconds; one more class is open above. Fine enough that a percentile read from the
   classes is off by less than their width. #}
{% macro delay_bounds() -%}
    {{ return([60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 28800, 43200, 64800, 86400, 129600, 172800,
               259200, 345600, 432000, 604800, 864000, 1209600, 2592000]) }}
{%- endmacro %}

{# Class of a delay, from 0. #}
{% macro delay_class(later, earlier) -%}
    width_bucket(extract(epoch from ({{ later }}) - ({{ earlier }})), array[{{ delay_bounds() | join(', ') }}]::numeric[])::smallint
{%- endmacro %}

{# Lower and upper bound of a class, in seconds. Nothing in the open one is taken for longer than ninety days. #}
{% macro delay_from(number) -%}
    coalesce((array[{{ delay_bounds() | join(', ') }}])[{{ number }}], 0)
{%- endmacro %}
{% macro delay_to(number) -%}
    coalesce((array[{{ delay_bounds() | join(', ') }}])[{{ number }} + 1], 90 * 86400)
{%- endmacro %}
