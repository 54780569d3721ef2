{# Score of a lead from what its messages led to (metrics, section 3), before any loss by time: each message counts once for
   each kind, whoever opened it how often. #}
{% macro lead_points(opened, clicked, replied, bounced, spam_complaints, unsubscribed) -%}
    case
        when {{ unsubscribed }} > 0 then 0
        else least(100, greatest(0, 5 * {{ opened }} + 10 * {{ clicked }} + 15 * {{ replied }} - 10 * {{ bounced }} - 50 * {{ spam_complaints }}))
    end::smallint
{%- endmacro %}

{# The same after the loss: 5 % of what is left for each full 30 days without an event. #}
{% macro decayed_score(score, last_engaged, as_of) -%}
    round({{ score }} * power(0.95, greatest(0, floor(extract(epoch from ({{ as_of }}) - ({{ last_engaged }})) / (30 * 86400)))))::smallint
{%- endmacro %}

{# Whether a lead is hot after the loss. Without points enough there is no loss to compute. #}
{% macro is_hot(score, last_engaged, as_of) -%}
    ({{ score }} >= {{ var('hot_lead_score') }} and {{ decayed_score(score, last_engaged, as_of) }} >= {{ var('hot_lead_score') }})
{%- endmacro %}

{# True once late events are no longer expected for a day, for views over facts that store no such mark. #}
{% macro is_final_as_of(date_column, as_of) -%}
    ({{ date_column }} <= {{ utc_date(as_of) }} - {{ var('final_after_days') }})
{%- endmacro %}
