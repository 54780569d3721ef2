{# What one delivered message costs in US dollars (metrics, section 6); null when none was delivered. #}
{% macro cost_per_email(cost, delivered) -%}
    round({{ cost }} / nullif({{ delivered }}, 0), 6)
{%- endmacro %}

{# The band of that cost. #}
{% macro cost_band(cost, delivered) -%}
    case
        when {{ delivered }} = 0 then null
        when {{ cost }} / {{ delivered }} < 0.01 then 'highly efficient'
        when {{ cost }} / {{ delivered }} < 0.02 then 'efficient'
        when {{ cost }} / {{ delivered }} < 0.05 then 'moderate'
        else 'needs optimisation'
    end
{%- endmacro %}
