-- Fails if an event is of no kind, in no class, or there by no rule that is known.
select e.tenant_id, e.storage_key, e.kind, e.event_key
from {{ ref('int_engagement_events') }} as e
where {{ touched_messages_only('e') }}
    and (
        e.kind not in ('open', 'click')
        or e.class not in ('human', 'machine', 'unknown')
        or e.rule not in ('source', 'scanner', 'prefetch', 'burst', 'proxy', 'none')
        or num_nulls(e.kind, e.class, e.rule) > 0
    )
