select
    id as event_id,
    tenant_id,
    storage_key,
    event_key,
    complained,
    provider,
    feedback_type,
    created
from {{ source('content', 'email_complaints') }}
where _deleted is null
