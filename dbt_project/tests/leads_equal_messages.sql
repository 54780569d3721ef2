-- Fails if a lead's counters differ from those of its messages.
with touched as (

    select distinct t.tenant_id, t.campaign_id, t.lead_id
    from {{ ref('int_touched_messages') }} as t
    where t.campaign_id is not null and t.lead_id is not null

),

messages as (

    select m.tenant_id, m.campaign_id, m.lead_id, {{ message_counters('m') }}
    from {{ ref('int_messages') }} as m
    where m.campaign_id is not null and m.lead_id is not null and not m.is_warmup
        and ((m.tenant_id, m.campaign_id, m.lead_id) in (select touched.tenant_id, touched.campaign_id, touched.lead_id from touched) or {{ everything_is_touched() }})
    group by m.tenant_id, m.campaign_id, m.lead_id

),

leads as (

    select f.*
    from {{ ref('lead_analytics') }} as f
    where (f.tenant_id, f.campaign_id, f.lead_id) in (select touched.tenant_id, touched.campaign_id, touched.lead_id from touched) or {{ everything_is_touched() }}

)

select
    coalesce(messages.tenant_id, leads.tenant_id) as tenant_id,
    coalesce(messages.campaign_id, leads.campaign_id) as campaign_id,
    coalesce(messages.lead_id, leads.lead_id) as lead_id
from messages
full join leads
    on messages.tenant_id = leads.tenant_id and messages.campaign_id = leads.campaign_id and messages.lead_id = leads.lead_id
where {{ counters_differ('messages', 'leads') }}
