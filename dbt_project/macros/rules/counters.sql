{# What the facts count, in one place. #}

{% macro counter_names() -%}
    {{ return(['sent', 'delivered', 'opened_tracked', 'clicked_tracked', 'replied', 'bounced', 'hard_bounced', 'soft_bounced',
               'unsubscribed', 'spam_complaints', 'opens_total', 'clicks_total', 'opened_machine', 'clicked_machine']) }}
{%- endmacro %}

{# Sums of the counters. Over messages each is 0 or 1 but for the totals; over facts it is the same sum again.
   `only` is a condition on the rows that count. #}
{% macro message_counters(alias=none, only=none) -%}
    {%- for name in counter_names() %}
    coalesce(sum({{ alias ~ '.' if alias }}{{ name }}){{ ' filter (where ' ~ only ~ ')' if only }}, 0)::integer as {{ name }}{{ ',' if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{# The same columns as they are. #}
{% macro counters(alias=none) -%}
    {%- for name in counter_names() %}
    {{ alias ~ '.' if alias }}{{ name }}{{ ',' if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{# The key that stands for "none" where a fact needs a value: no workspace, no step, no mailbox. #}
{% macro nobody() -%}
    '00000000-0000-0000-0000-000000000000'::uuid
{%- endmacro %}
