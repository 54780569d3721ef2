{# Percent of a limit: null without one; a limit of 0 counts as used up as soon as anything is used. #}
{% macro percent_used(used, limit) -%}
    case
        when {{ limit }} is null then null
        when {{ limit }} = 0 then case when {{ used }} > 0 then 100.00 else 0.00 end
        else {{ rate(used, limit) }}
    end
{%- endmacro %}

{# used, limit, percent, remaining and over of one resource. #}
{% macro usage_of(name, used, limit) -%}
    {{ used }} as {{ name }}_used,
    {{ limit }} as {{ name }}_limit,
    {{ percent_used(used, limit) }} as {{ name }}_percent,
    case when {{ limit }} is not null then greatest(0, {{ limit }} - {{ used }}) end as {{ name }}_remaining,
    case when {{ limit }} is not null then greatest(0, {{ used }} - {{ limit }}) end as {{ name }}_over
{%- endmacro %}
