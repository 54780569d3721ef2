select
    id as event_id,
    tenant_id,
    storage_key,
    event_key,
    clicked,
    user_agent,
    device_type,
    country,
    is_bot,
    created,
    clicked_url as link,
    ip_address
from {{ source('content', 'email_clicks') }}
where _deleted is null
