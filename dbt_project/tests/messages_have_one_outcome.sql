-- Fails if a message is delivered and bounced at once, engaged without being delivered, or bounced in neither or both ways.
select m.tenant_id, m.storage_key
from {{ ref('int_messages') }} as m
where {{ touched_messages_only('m') }}
    and (
        m.delivered + m.bounced > 1
        or m.bounced <> m.hard_bounced + m.soft_bounced
        or greatest(m.opened_tracked, m.clicked_tracked, m.replied, m.unsubscribed, m.spam_complaints) > m.delivered
        or m.clicked_tracked > m.opened_tracked
    )
