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

{# What an overage is charged: for each 10,000 messages begun, in the mode that the plan has (dbt_project.yml). `block` costs
   nothing because sending stops; `approve` costs nothing until somebody approves it by buying the add-on, which raises the
   limit, and until then the charge waits. #}
{% macro overage_price(over) -%}
    (ceil(({{ over }})::numeric / {{ var('extra_emails_per_unit') }}) * {{ var('extra_emails_cents') }})
{%- endmacro %}

{% macro overage_mode(plan_slug) -%}
    {%- set modes = var('overage_modes') -%}
    case
        {%- for slug, mode in modes.items() if slug != 'default' %} when {{ plan_slug }} = '{{ slug }}' then '{{ mode }}'{% endfor %}
        when true then '{{ modes['default'] }}'
    end
{%- endmacro %}

{# Messages at the end of the window when it goes on as it began; null before its third day. #}
{% macro projected(used, period_start, period_end, moment) -%}
    case when {{ moment }} >= {{ period_start }} + interval '2 days' then round(
        {{ used }} / extract(epoch from least({{ moment }}, {{ period_end }}) - {{ period_start }})
        * extract(epoch from {{ period_end }} - {{ period_start }})
    )::bigint end
{%- endmacro %}

{% macro alert_level(percent) -%}
    case
        when {{ percent }} >= 100 then 'reached'
        when {{ percent }} >= 95 then 'urgent'
        when {{ percent }} >= 90 then 'warning'
        when {{ percent }} >= 80 then 'notice'
    end
{%- endmacro %}
