select
    id as event_id,
    tenant_id,
    storage_key,
    event_key,
    replied,
    reply_storage_key,
    is_auto_reply,
    created
from {{ source('content', 'email_replies') }}
where _deleted is null
