select
    id as step_id,
    tenant_id,
    campaign_id,
    step_order,
    step_type,
    email_account_id as mailbox_id,
    template_id,
    wait_duration_hours,
    wait_until_date,
    condition_type,
    is_active,
    executed_count,
    last_executed,
    created,
    updated
from {{ source('oltp', 'campaign_sequence_steps') }}
where _deleted is null
