select
    id as event_id,
    tenant_id,
    storage_key,
    event_key,
    opened,
    user_agent,
    device_type,
    mail_client,
    country,
    is_bot,
    created,
    ip_address
from {{ source('content', 'email_opens') }}
where _deleted is null
