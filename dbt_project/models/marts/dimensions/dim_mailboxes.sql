{{ config(
    materialized='incremental', incremental_strategy='slices', full_refresh=false,
    unique_key=['tenant_id', 'mailbox_id'], touched='touched_dim_mailboxes',
    keep_when='exists (select from marts.mailbox_analytics as f where f.tenant_id = t.tenant_id and f.mailbox_id = t.mailbox_id)'
) }}

select
    m.mailbox_id,
    m.tenant_id,
    nullif(m.company_id, {{ nobody() }}) as company_id,
    nullif(m.domain_id, {{ nobody() }}) as domain_id,
    m.mailbox_pseudonym,
    m.domain,
    m.provider,
    m.status,
    m.updated as source_updated
from {{ ref('int_mailboxes') }} as m
where not m.is_deleted
{%- if not is_full_build() %}
    and (m.tenant_id, m.mailbox_id) in ({{ touched_keys(touched_dim_mailboxes) }})
{%- endif %}
