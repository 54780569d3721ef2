select
    id as template_id,
    tenant_id,
    name,
    is_starred,
    created,
    updated
from {{ source('oltp', 'templates') }}
where _deleted is null
