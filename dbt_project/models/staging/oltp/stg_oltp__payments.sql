select
    id as payment_id,
    tenant_id,
    subscription_id,
    initiated_by_user_id,
    amount,
    currency,
    status,
    processed,
    billing_period_start,
    billing_period_end,
    created
from {{ source('oltp', 'payments') }}
where _deleted is null
