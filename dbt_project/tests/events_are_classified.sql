-- Fails if an event is of no kind, in no class, or there by no rule that is known.
{{ config(meta={'dagster': {'ref': {'name': 'int_engagement_events'}}}) }}
select e.tenant_id, e.storage_key, e.kind, e.event_key
from ({{ touched_rows('int_engagement_events', ['tenant_id', 'storage_key']) }}) as e
where e.kind not in ('open', 'click')
    or e.class not in ('human', 'machine', 'unknown')
    or e.rule not in ('source', 'scanner', 'prefetch', 'burst', 'proxy', 'none')
    or num_nulls(e.kind, e.class, e.rule) > 0
