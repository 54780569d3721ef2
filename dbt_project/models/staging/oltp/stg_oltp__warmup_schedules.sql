select
    id as schedule_id,
    tenant_id,
    email_account_id as mailbox_id,
    schedule_name,
    schedule_type,
    total_days,
    current_day,
    start_volume,
    target_volume,
    status,
    paused_reason,
    started,
    completed,
    created,
    updated
from {{ source('oltp', 'warmup_schedules') }}
where _deleted is null
