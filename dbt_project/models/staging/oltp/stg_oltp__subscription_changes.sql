select
    id as change_id,
    tenant_id,
    subscription_id,
    plan_id,
    status,
    billing_interval,
    mrr_cents,
    reason,
    effective,
    created
from {{ source('oltp', 'subscription_changes') }}
where _deleted is null
