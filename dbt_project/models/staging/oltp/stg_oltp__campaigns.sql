select
    id as campaign_id,
    tenant_id,
    company_id,
    name,
    status,
    scheduled,
    started,
    completed,
    created,
    updated
from {{ source('oltp', 'campaigns') }}
where _deleted is null
