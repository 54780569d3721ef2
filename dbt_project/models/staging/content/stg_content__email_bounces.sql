select
    id as event_id,
    tenant_id,
    storage_key,
    event_key,
    bounced,
    bounce_type,
    bounce_code,
    bounce_reason,
    created
from {{ source('content', 'email_bounces') }}
where _deleted is null
