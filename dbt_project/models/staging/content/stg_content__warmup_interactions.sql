select
    id as interaction_id,
    tenant_id,
    email_account_id as mailbox_id,
    storage_key,
    interaction_type,
    event_key,
    interacted,
    created,
    partner_mailbox as partner_pseudonym
from {{ source('content', 'warmup_interactions') }}
where _deleted is null
