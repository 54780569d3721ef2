-- Fails if a lead's counters differ from those of its messages.
with messages as (

    select m.tenant_id, m.campaign_id, m.lead_id, {{ message_counters('m') }}
    from {{ ref('int_messages') }} as m
    where m.campaign_id is not null and m.lead_id is not null and not m.is_warmup
        and {{ touched_only('m', ['tenant_id', 'lead_id', 'campaign_id']) }}
    group by m.tenant_id, m.campaign_id, m.lead_id

),

leads as (

    select f.*
    from {{ ref('lead_analytics') }} as f
    where {{ touched_only('f', ['tenant_id', 'lead_id', 'campaign_id']) }}

)

select
    coalesce(messages.tenant_id, leads.tenant_id) as tenant_id,
    coalesce(messages.campaign_id, leads.campaign_id) as campaign_id,
    coalesce(messages.lead_id, leads.lead_id) as lead_id
from messages
full join leads
    on messages.tenant_id = leads.tenant_id and messages.campaign_id = leads.campaign_id and messages.lead_id = leads.lead_id
where {{ counters_differ('messages', 'leads') }}
