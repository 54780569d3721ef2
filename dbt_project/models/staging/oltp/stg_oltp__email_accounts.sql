select
    id as mailbox_id,
    tenant_id,
    company_id,
    domain_id,
    provider,
    status,
    daily_limit,
    daily_count,
    last_warmed,
    created,
    updated,
    email as mailbox_pseudonym,
    email_domain as mailbox_domain
from {{ source('oltp', 'email_accounts') }}
where _deleted is null
