{# Tenants whose contracts may earn something else than before; a changed price list is about all of them. #}
{% macro touched_revenue() -%}
    select tenant_id from ({{ touched_entities(['oltp.subscriptions', 'oltp.subscription_changes', 'oltp.subscription_addons']) }}) as e
    where tenant_id is not null
    union
    select t.tenant_id from {{ ref('stg_oltp__tenants') }} as t
    where exists (select from {{ slices() }} as s where s.cause = 'oltp.plans')
{%- endmacro %}

{# The calendar only grows. #}
{% macro touched_calendar_days() -%}
    select null::date as day where false
{%- endmacro %}

{# Revenue of a tenant just before a moment: what happens at midnight belongs to the day that begins. #}
{% macro earned_before(moment, alias) -%}
    ({{ alias }}.valid_from < {{ moment }} and ({{ alias }}.valid_until is null or {{ alias }}.valid_until >= {{ moment }}))
{%- endmacro %}

{# What became of a tenant between two moments; nothing when it paid at neither. #}
{% macro movement(start_cents, end_cents) -%}
    case
        when {{ start_cents }} = 0 and {{ end_cents }} > 0 then 'new'
        when {{ start_cents }} > 0 and {{ end_cents }} = 0 then 'churned'
        when {{ end_cents }} > {{ start_cents }} then 'expansion'
        when {{ end_cents }} < {{ start_cents }} then 'contraction'
        when {{ end_cents }} > 0 then 'unchanged'
    end
{%- endmacro %}
