select
    id as addon_id,
    tenant_id,
    subscription_id,
    addon_type,
    quantity,
    price_monthly,
    is_active,
    created,
    updated
from {{ source('oltp', 'subscription_addons') }}
where _deleted is null
