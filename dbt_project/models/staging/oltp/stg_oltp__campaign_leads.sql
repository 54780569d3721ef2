select
    id as enrolment_id,
    tenant_id,
    campaign_id,
    lead_id,
    status,
    current_step_id,
    steps_completed,
    exit_reason,
    next_due,
    started,
    completed,
    created,
    updated
from {{ source('oltp', 'campaign_leads') }}
where _deleted is null
