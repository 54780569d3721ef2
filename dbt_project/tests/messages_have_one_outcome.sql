-- Fails if a message is without a workspace or day, delivered and bounced at once, engaged without being delivered, bounced in
-- neither or both ways, or says so in a word that no rule knows.
{{ config(meta={'dagster': {'ref': {'name': 'int_messages'}}}) }}
select m.tenant_id, m.storage_key
from ({{ touched_rows('int_messages', ['tenant_id', 'storage_key']) }}) as m
where m.tenant_id is null or m.storage_key is null or m.activity_date is null or m.company_id is null
    or m.delivered + m.bounced > 1
    or m.bounced <> m.hard_bounced + m.soft_bounced
    or greatest(m.opened_tracked, m.clicked_tracked, m.replied, m.unsubscribed, m.spam_complaints) > m.delivered
    or m.clicked_tracked > m.opened_tracked
    or m.bounce_type not in ('hard', 'soft')
    or m.delivery_basis not in ('trace', 'implied_by_engagement', 'implied_by_silence')
