-- Fails if a lead's counters differ from those of its messages.
{{ config(meta={'dagster': {'ref': {'name': 'lead_analytics'}}}) }}
{%- set keys = ['tenant_id', 'campaign_id', 'lead_id'] %}
with messages as (

    select m.tenant_id, m.campaign_id, m.lead_id, {{ message_counters('m') }}
    from ({{ touched_rows('int_messages', keys) }}) as m
    where m.campaign_id is not null and m.lead_id is not null and not m.is_warmup
    group by m.tenant_id, m.campaign_id, m.lead_id

),

leads as (

    {{ touched_rows('lead_analytics', keys) }}

)

select
    coalesce(messages.tenant_id, leads.tenant_id) as tenant_id,
    coalesce(messages.campaign_id, leads.campaign_id) as campaign_id,
    coalesce(messages.lead_id, leads.lead_id) as lead_id
from messages
full join leads
    on messages.tenant_id = leads.tenant_id and messages.campaign_id = leads.campaign_id and messages.lead_id = leads.lead_id
where {{ counters_differ('messages', 'leads') }}
