{# Id of the usage window that holds the day of a fact row. Windows are made before facts by int_usage_windows; a ref to
   billing_analytics would close a circle, for its usage is summed from the facts. #}
{% macro billing_id(alias) -%}
    (
        select w.id
        from marts.billing_analytics as w
        where w.tenant_id = {{ alias }}.tenant_id
            and w.period_start <= {{ utc_start(alias ~ '.activity_date') }} and w.period_end > {{ utc_start(alias ~ '.activity_date') }}
        order by w.period_start desc
        limit 1
    )
{%- endmacro %}

{# Makes the usage windows that are still missing, after the last one of their tenant; a window that begins inside it
   (another contract, another day of the month) begins where it ends. #}
{% macro make_missing_windows() -%}
    {%- if is_scratch() -%}{{ return('select 1') }}{%- endif %}
    insert into marts.billing_analytics (tenant_id, subscription_id, plan_id, period_start, period_end)
    select w.tenant_id, w.subscription_id, w.plan_id, greatest(w.period_start, last.period_end), w.period_end
    from {{ this }} as w
    left join (
        select tenant_id, max(period_end) as period_end from marts.billing_analytics group by tenant_id
    ) as last on w.tenant_id = last.tenant_id
    where last.period_end is null or w.period_end > last.period_end
    on conflict (tenant_id, period_start, period_end) do nothing
{%- endmacro %}

{# (tenant_id, period_start, period_end) of the open windows of the tenants about whom anything changed. #}
{% macro touched_windows() -%}
    select w.tenant_id, w.period_start, w.period_end
    from marts.billing_analytics as w
    inner join ({{ touched_tenants() }}) as t on w.tenant_id = t.tenant_id
    where not w.is_final
{%- endmacro %}

{# (tenant_id) whose leads changed. #}
{% macro touched_lead_lists() -%}
    select distinct tenant_id from ({{ touched_entities(['oltp.leads']) }}) as e
{%- endmacro %}

{# Revenue counts while a contract is paid for: active, or past_due before it is suspended. #}
{% macro paid_cents(status, cents) -%}
    case when {{ status }} in ('active', 'past_due') then {{ cents }} else 0 end
{%- endmacro %}

{# Monthly price in cents of a contract by the price list; null for a custom price. #}
{% macro list_price(billing_interval, plans) -%}
    case {{ billing_interval }} when 'year' then {{ plans }}.price_yearly / 12.0 else {{ plans }}.price_monthly end
{%- endmacro %}
