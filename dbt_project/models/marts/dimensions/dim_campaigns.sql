{{ config(
    materialized='incremental', incremental_strategy='slices', full_refresh=false,
    unique_key=['tenant_id', 'campaign_id'], touched='touched_campaigns',
    keep_when='exists (select from marts.campaign_analytics as f where f.tenant_id = t.tenant_id and f.campaign_id = t.campaign_id)'
) }}

select
    c.campaign_id,
    c.tenant_id,
    c.company_id,
    c.name,
    c.status,
    c.started,
    c.completed,
    c.updated as source_updated
from {{ ref('stg_oltp__campaigns') }} as c
{%- if not is_full_build() %}
where (c.tenant_id, c.campaign_id) in ({{ touched_keys(touched_campaigns) }})
{%- endif %}
