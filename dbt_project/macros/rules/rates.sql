{# Percent with two decimals, half up; null where the denominator is 0. A rate over several rows is the ratio of the sums. #}
{% macro rate(numerator, denominator) -%}
    round(100.0 * ({{ numerator }}) / nullif({{ denominator }}, 0), 2)
{%- endmacro %}

{# How many of one for each of the other, two decimals, half up; null where there is none of the other. #}
{% macro ratio(numerator, denominator) -%}
    round(1.0 * ({{ numerator }}) / nullif({{ denominator }}, 0), 2)
{%- endmacro %}

{# The rates that every performance view shows, over columns of the counters' names. #}
{% macro rates() -%}
    {{ rate('delivered', 'sent') }} as delivery_rate,
    {{ rate('opened_tracked', 'delivered') }} as open_rate,
    {{ rate('clicked_tracked', 'delivered') }} as click_rate,
    {{ rate('replied', 'delivered') }} as reply_rate,
    {{ rate('bounced', 'sent') }} as bounce_rate,
    {{ rate('hard_bounced', 'sent') }} as hard_bounce_rate,
    {{ rate('unsubscribed', 'delivered') }} as unsubscribe_rate,
    {{ rate('spam_complaints', 'delivered') }} as spam_rate,
    {{ rate('clicked_tracked', 'opened_tracked') }} as click_to_open_rate
{%- endmacro %}

{# Penalty of the health score H1: 0 up to `start`, 100 from `full`, straight between. A rate that is null costs nothing. #}
{% macro penalty(value, start, full) -%}
    coalesce(100 * least(1.0, greatest(0.0, (({{ value }}) - {{ start }}) / ({{ full }} - {{ start }}))), 0)
{%- endmacro %}

{# Mailbox health H1 from the sums of seven days and the sends of the seven days before; null for too few sends. #}
{% macro mailbox_health(sent, delivered, hard_bounced, spam_complaints, unsubscribed, sent_before, is_paused) -%}
    case when {{ sent }} >= {{ var('health_minimum_sends') }} then round(
        100
        - 0.35 * {{ penalty('100.0 * ' ~ hard_bounced ~ ' / nullif(' ~ sent ~ ', 0)', '2.0', '10.0') }}
        - 0.35 * {{ penalty('100.0 * ' ~ spam_complaints ~ ' / nullif(' ~ delivered ~ ', 0)', '0.1', '0.5') }}
        - 0.15 * {{ penalty('100.0 * ' ~ unsubscribed ~ ' / nullif(' ~ delivered ~ ', 0)', '1.0', '5.0') }}
        - 0.15 * case
            when {{ sent_before }} >= {{ var('health_minimum_volume') }} and not {{ is_paused }}
                then {{ penalty('100.0 * (' ~ sent_before ~ ' - ' ~ sent ~ ') / nullif(' ~ sent_before ~ ', 0)', '50.0', '100.0') }}
            else 0
        end
    )::smallint end
{%- endmacro %}

{% macro health_band(score) -%}
    case
        when {{ score }} is null then null
        when {{ score }} >= 90 then 'excellent'
        when {{ score }} >= 75 then 'good'
        when {{ score }} >= 60 then 'warning'
        else 'critical'
    end
{%- endmacro %}
