{{ config(materialized='view') }}

-- Reads the sources and not staging on purpose: mail of a mailbox or domain that was deleted stays with its workspace.
with mailboxes as (

    select * from {{ source('oltp', 'email_accounts') }}

),

domains as (

    select * from {{ source('oltp', 'domains') }}

)

select
    mailboxes.tenant_id,
    mailboxes.id as mailbox_id,
    coalesce(mailboxes.domain_id, {{ nobody() }}) as domain_id,
    coalesce(domains.company_id, {{ nobody() }}) as company_id,
    domains.domain,
    mailboxes.email as mailbox_pseudonym,
    mailboxes.provider,
    mailboxes.status,
    mailboxes.daily_limit,
    mailboxes.updated,
    mailboxes._deleted is not null as is_deleted
from mailboxes
left join domains on mailboxes.tenant_id = domains.tenant_id and mailboxes.domain_id = domains.id
