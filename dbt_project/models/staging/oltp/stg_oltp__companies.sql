select
    id as company_id,
    tenant_id,
    name,
    workspace_name,
    status,
    industry,
    company_size,
    onboarding_started,
    onboarding_completed,
    hide_onboarding,
    created,
    updated
from {{ source('oltp', 'companies') }}
where _deleted is null
