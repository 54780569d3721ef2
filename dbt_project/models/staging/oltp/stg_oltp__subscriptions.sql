select
    id as subscription_id,
    tenant_id,
    plan_id,
    pending_plan_id,
    status,
    billing_interval,
    current_period_start,
    current_period_end,
    cancel_at_period_end,
    cancel_date,
    billing_contact_user_id,
    created,
    updated
from {{ source('oltp', 'subscriptions') }}
where _deleted is null
