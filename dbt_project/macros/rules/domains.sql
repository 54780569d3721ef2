{# Primary (organizational) domain: the registered name, without the host parts before it. `suffix_of_two` says that its last
   two labels are a suffix. #}
{% macro primary_domain(domain, suffix_of_two) -%}
    array_to_string((string_to_array(lower({{ domain }}), '.'))[
        greatest(1, cardinality(string_to_array({{ domain }}, '.')) - case when {{ suffix_of_two }} then 2 else 1 end):
    ], '.')
{%- endmacro %}

{# The last two labels of a domain. #}
{% macro last_two_labels(domain) -%}
    array_to_string((string_to_array(lower({{ domain }}), '.'))[greatest(1, cardinality(string_to_array({{ domain }}, '.')) - 1):], '.')
{%- endmacro %}
