{{ config(
    materialized='incremental', incremental_strategy='slices', full_refresh=false,
    unique_key=['tenant_id', 'created_date'], touched='touched_lead_lists', touched_by=['tenant_id'],
    indexes=[{'columns': ['tenant_id', 'created_date'], 'unique': true}]
) }}

-- Leads by the day on which they came, counted again for the tenants whose list changed: a window counts all before its end.
select l.tenant_id, {{ utc_date('l.created') }} as created_date, count(*)::integer as leads
from {{ ref('stg_oltp__leads') }} as l
{%- if not is_full_build() %}
inner join ({{ touched_keys(touched_lead_lists) }}) as touched on l.tenant_id = touched.tenant_id
{%- endif %}
group by l.tenant_id, {{ utc_date('l.created') }}
