select
    id as event_id,
    tenant_id,
    storage_key,
    event_key,
    unsubscribed,
    method,
    created
from {{ source('content', 'email_unsubscribes') }}
where _deleted is null
