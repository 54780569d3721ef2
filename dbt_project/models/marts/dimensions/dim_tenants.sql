{{ config(
    materialized='incremental', incremental_strategy='slices', full_refresh=false,
    unique_key=['tenant_id'], touched='touched_tenants', keep_when='true'
) }}

select
    t.tenant_id,
    t.name,
    t.created as signed_up,
    t.deleted as closed,
    paid.first_paid,
    t.updated as source_updated
from {{ ref('stg_oltp__tenants') }} as t
left join (
    select tenant_id, min(processed) as first_paid
    from {{ ref('stg_oltp__payments') }}
    where status = 'succeeded'
    group by tenant_id
) as paid on t.tenant_id = paid.tenant_id
{%- if not is_full_build() %}
where t.tenant_id in ({{ touched_keys(touched_tenants) }})
{%- endif %}
