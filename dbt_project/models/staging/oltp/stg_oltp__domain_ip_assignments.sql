select
    id as assignment_id,
    tenant_id,
    domain_id,
    smtp_ip_address_id,
    status,
    warmup_state,
    assigned,
    expires,
    last_sent,
    created,
    updated
from {{ source('oltp', 'domain_ip_assignments') }}
where _deleted is null
