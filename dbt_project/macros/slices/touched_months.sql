{# Months of the rollups. They are summed from the daily facts while those are online and stay when those are archived. #}

{% macro month_of(day) -%}
    date_trunc('month', ({{ day }})::timestamp)::date
{%- endmacro %}

{% macro last_day_of(month) -%}
    ({{ month }} + interval '1 month - 1 day')::date
{%- endmacro %}

{# Rows of a daily fact that belong to the months to recompute, with their month; `touched` is
   the query for those. #}
{% macro days_of_months(fact, keys, touched) -%}
    select f.*, {{ month_of('f.activity_date') }} as month
    from {{ ref(fact) }} as f
    {%- if not is_full_build() %}
    inner join (select distinct * from ({{ touched }}) as k) as touched
        on f.activity_date >= touched.month and f.activity_date <= {{ last_day_of('touched.month') }}
        {%- for key in keys %}
        and f.{{ key }} = touched.{{ key }}
        {%- endfor %}
    {%- endif %}
    where f.activity_date >= {{ online_from() }}
{%- endmacro %}

{# Months that have ended and become final. #}
{% macro closing_months(rollup, keys) -%}
    select {% for key in keys %}m.{{ key }}, {% endfor %}m.month
    from marts.{{ rollup }} as m
    inner join ({{ closing_days() }}) as d
        on {{ 'd.tenant_id is null' if 'tenant_id' not in keys else 'm.tenant_id = d.tenant_id' }}
        and d.activity_date = {{ last_day_of('m.month') }}
    where not m.is_final
{%- endmacro %}

{% macro touched_campaign_months() -%}
    select tenant_id, campaign_id, {{ month_of('activity_date') }} as month
    from {{ ref('int_touched_messages') }}
    where campaign_id is not null and activity_date >= {{ online_from() }}
    union
    {{ closing_months('campaign_analytics_monthly', ['tenant_id', 'campaign_id']) }}
    union
    -- Leads that were enrolled with a date in the past change the snapshots of all days since.
    select m.tenant_id, m.campaign_id, m.month
    from marts.campaign_analytics_monthly as m
    inner join ({{ touched_campaign_leads() }}) as e on m.tenant_id = e.tenant_id and m.campaign_id = e.campaign_id
    where m.month >= {{ online_from() }}
{%- endmacro %}

{% macro touched_step_months() -%}
    select tenant_id, step_id, campaign_id, {{ month_of('activity_date') }} as month
    from {{ ref('int_touched_messages') }}
    where campaign_id is not null and activity_date >= {{ online_from() }}
    union
    {{ closing_months('sequence_step_analytics_monthly', ['tenant_id', 'step_id', 'campaign_id']) }}
{%- endmacro %}

{# Mail changes the health of the thirteen days after it, which may be in the next month. #}
{% macro touched_mailbox_months() -%}
    select tenant_id, mailbox_id, {{ month_of('activity_date') }} as month
    from ({{ touched_mailbox_days() }}) as d
    union
    select tenant_id, mailbox_id, {{ month_of('activity_date + 13') }} as month
    from ({{ touched_mailbox_days() }}) as d
    union
    {{ closing_months('mailbox_analytics_monthly', ['tenant_id', 'mailbox_id']) }}
    union
    select m.tenant_id, m.mailbox_id, m.month
    from marts.mailbox_analytics_monthly as m
    inner join ({{ touched_entities(['oltp.email_accounts']) }}) as e on m.tenant_id = e.tenant_id and m.mailbox_id = e.entity_id
    where not m.is_final
{%- endmacro %}

{% macro touched_ip_months() -%}
    select smtp_ip_address_id, {{ month_of('activity_date') }} as month
    from ({{ touched_ip_traffic() }}) as t
    where activity_date >= {{ online_from() }}
    union
    select f.smtp_ip_address_id, {{ month_of('f.activity_date') }} as month
    from {{ ref('infrastructure_analytics') }} as f
    inner join ({{ changed_ips() }}) as c on f.smtp_ip_address_id = c.smtp_ip_address_id
    where f.activity_date >= {{ online_from() }}
    union
    {{ closing_months('infrastructure_analytics_monthly', ['smtp_ip_address_id']) }}
    union
    select s.entity_id as smtp_ip_address_id, month::date
    from {{ slices() }} as s
    cross join lateral generate_series(
        greatest({{ month_of('s.activity_date') }}, {{ online_from() }})::timestamp, {{ as_of_date() }}::timestamp, interval '1 month'
    ) as month
    where s.kind = 'entity' and s.cause = 'time.infrastructure_day'
{%- endmacro %}
