{{ config(
    materialized='incremental', incremental_strategy='slices', full_refresh=false,
    unique_key=['tenant_id', 'company_id'], touched='touched_companies',
    keep_when='exists (select from marts.mailbox_analytics as f where f.tenant_id = t.tenant_id and f.company_id = t.company_id)'
) }}

select
    c.company_id,
    c.tenant_id,
    c.name,
    c.status,
    c.industry,
    c.company_size,
    c.updated as source_updated
from {{ ref('stg_oltp__companies') }} as c
{%- if not is_full_build() %}
where (c.tenant_id, c.company_id) in ({{ touched_keys(touched_companies) }})
{%- endif %}
