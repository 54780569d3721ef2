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
    select '{{ fact }}' as fact, m.tenant_id, m.month
    from {{ ref(fact ~ '_monthly') }} as m
    left join lateral (
        select {{ message_counters('f') }}
        from {{ ref(fact) }} as f
        where {% for key in keys %}f.{{ key }} = m.{{ key }} and {% endfor %}f.activity_date >= m.month and f.activity_date <= {{ last_day_of('m.month') }}
    ) as days on true
    where (
        (m.tenant_id, m.month) in (select touched.tenant_id, touched.month from touched)
        and {{ counters_differ('m', 'days') }}
    ) or (m.month >= {{ online_from() }} and m.is_final is distinct from {{ is_final(last_day_of('m.month')) }})
)
{{ 'union all' if not loop.last }}
{%- endfor %}
