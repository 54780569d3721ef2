select
    id as lead_id,
    tenant_id,
    status,
    imported,
    created,
    updated,
    email as lead_pseudonym,
    email_domain as lead_domain
from {{ source('oltp', 'leads') }}
where _deleted is null
