select
    id as domain_id,
    tenant_id,
    company_id,
    domain,
    verification_status,
    is_primary,
    verified,
    dns_ttl_observed,
    dns_last_verified,
    dns_verification_attempts,
    created,
    updated
from {{ source('oltp', 'domains') }}
where _deleted is null
