select
    id as suppression_id,
    tenant_id,
    company_id,
    reason,
    source,
    scope,
    expires,
    created,
    updated,
    email as recipient_pseudonym
from {{ source('oltp', 'suppression_list') }}
where _deleted is null
