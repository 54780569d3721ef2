select
    id as tenant_id,
    name,
    created,
    updated,
    deleted,
    compute_id
from {{ source('oltp', 'tenants') }}
where _deleted is null
