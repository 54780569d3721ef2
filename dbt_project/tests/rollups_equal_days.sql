-- Fails if a month that was touched differs from the sum of its days, or is final before or after its last day.
{%- set rollups = {
    'campaign_analytics': ['tenant_id', 'campaign_id'],
    'sequence_step_analytics': ['tenant_id', 'campaign_id', 'step_id'],
    'mailbox_analytics': ['tenant_id', 'mailbox_id'],
    'infrastructure_analytics': ['tenant_id', 'smtp_ip_address_id']} %}
with touched as (

    select distinct tenant_id, {{ month_of('activity_date') }} as month
    from {{ ref('int_touched_messages') }}
    where activity_date >= {{ online_from() }}

)
{%- for fact, keys in rollups.items() %}
(
    select '{{ fact }}' as fact, coalesce(months.tenant_id, days.tenant_id) as tenant_id, coalesce(months.month, days.month) as month
    from (
        select touched.month, {% for key in keys %}f.{{ key }}, {% endfor %}{{ message_counters('f') }}
        from touched
        inner join {{ ref(fact) }} as f
            on touched.tenant_id = f.tenant_id
            and f.activity_date >= touched.month and f.activity_date <= {{ last_day_of('touched.month') }}
        group by touched.month{% for key in keys %}, f.{{ key }}{% endfor %}
    ) as days
    full join (
        select m.*
        from {{ ref(fact ~ '_monthly') }} as m
        where (m.tenant_id, m.month) in (select touched.tenant_id, touched.month from touched)
    ) as months
        on days.month = months.month{% for key in keys %} and days.{{ key }} = months.{{ key }}{% endfor %}
    where {{ counters_differ('months', 'days') }}
)
union all
(
    select '{{ fact }}', m.tenant_id, m.month
    from {{ ref(fact ~ '_monthly') }} as m
    where m.month >= {{ online_from() }} and m.is_final is distinct from {{ is_final(last_day_of('m.month')) }}
)
{{ 'union all' if not loop.last }}
{%- endfor %}
