{# Reputation of a sending address and the alerts of everything that sends (metrics, sections 8 and 12). #}

{# State from the score; being on a major list is critical whatever the score. Without a score the source's own word. #}
{% macro reputation_state(score, major_lists, said) -%}
    case
        when {{ major_lists }} > 0 or {{ score }} < 50 then 'critical'
        when {{ score }} < 70 then 'poor'
        when {{ score }} < 85 then 'fair'
        when {{ score }} >= 85 then 'good'
        else {{ said }}
    end
{%- endmacro %}

{# Engagement score: opens, clicks and replies for each message sent. #}
{% macro engagement_score() -%}
    100 * (0.3 * opened_tracked + 0.4 * clicked_tracked + 0.3 * replied) / nullif(sent, 0)
{%- endmacro %}

{# notice, warning or act, from conditions of which any may be none; null below the minimum of sends. #}
{% macro alert_of(notice=none, warning=none, act=none, minimum=none) -%}
    case
        {%- if minimum %}
        when {{ minimum }} < {{ var('alert_minimum_sends') }} then null
        {%- endif %}
        {%- for level, condition in [('act', act), ('warning', warning), ('notice', notice)] if condition %}
        when {{ condition }} then '{{ level }}'
        {%- endfor %}
    end
{%- endmacro %}

{# Complaints and delivery have the same limits for addresses, mailboxes and campaigns. Limits hold for the rates as shown. #}
{% macro spam_alert() -%}
    {{ alert_of(act='spam_rate > 0.1', notice='spam_rate > 0.05', minimum='sent') }}
{%- endmacro %}

{% macro delivery_alert() -%}
    {{ alert_of(act='delivery_rate < 93', warning='delivery_rate < 95', notice='delivery_rate < 98', minimum='sent') }}
{%- endmacro %}

{# The alerts that a day's mail of a mailbox and of a campaign has alike. #}
{% macro mail_alerts() -%}
    {{ alert_of(act='bounce_rate > 5', warning='bounce_rate > 3', notice='bounce_rate > 2', minimum='sent') }} as bounce_alert,
    {{ spam_alert() }} as spam_alert,
    {{ alert_of(act='unsubscribe_rate > 1', warning='unsubscribe_rate > 0.5', notice='unsubscribe_rate > 0.2', minimum='sent') }}
        as unsubscribe_alert,
    {{ delivery_alert() }} as delivery_alert
{%- endmacro %}

{# The most serious of several alerts. #}
{% macro most_serious(alerts) -%}
    case
        {%- for level in ['act', 'warning', 'notice'] %}
        when '{{ level }}' in ({{ alerts | join(', ') }}) then '{{ level }}'
        {%- endfor %}
    end
{%- endmacro %}

{# Domain health H3 from the sums of thirty days; null when nothing was sent. The inbox rate is the estimate. #}
{% macro domain_health(sent, delivered, bounced, spam_complaints, opened_tracked, clicked_tracked) -%}
    case when {{ sent }} > 0 then round(greatest(0.0, least(100.0,
        100
        - 0.5 * 100.0 * ({{ bounced }} + {{ spam_complaints }}) / {{ sent }}
        - 5 * 100.0 * {{ bounced }} / {{ sent }}
        - 10 * coalesce(100.0 * {{ spam_complaints }} / nullif({{ delivered }}, 0), 0)
        + least(0.5 * coalesce(100.0 * {{ opened_tracked }} / nullif({{ delivered }}, 0), 0), 20)
        + least(2 * coalesce(100.0 * {{ clicked_tracked }} / nullif({{ delivered }}, 0), 0), 10)
    )), 2) end
{%- endmacro %}

{# The last day that the marts speak of: that of the latest mail, which is today where anything is sent. Trailing windows
   of views end with it. A date in the future, by a clock that is wrong, is not believed. #}
{% macro latest_day() -%}
    coalesce(
        (select max(latest.activity_date) from marts.mailbox_analytics as latest where not latest.is_final and latest.activity_date <= {{ utc_date('now()') }}),
        {{ utc_date('now()') }}
    )
{%- endmacro %}
