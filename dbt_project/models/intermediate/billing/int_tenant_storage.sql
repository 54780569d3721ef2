{{ config(
    materialized='incremental', incremental_strategy='slices', full_refresh=false,
    unique_key=['tenant_id'], touched='touched_tenants', keep_when='true',
    indexes=[{'columns': ['tenant_id'], 'unique': true}]
) }}

{%- set measured = earlier('intermediate', 'int_tenant_storage') %}

-- Measured once a day for each tenant about whom anything changed: it reads all objects of the tenant.
with due as (

    {{ touched_tenants() }}
    {%- if measured is not none and not is_full_build() %}
    except
    select tenant_id from {{ measured }} where measured >= {{ as_of_date() }}
    {%- endif %}

)

select
    due.tenant_id,
    {{ as_of_date() }} as measured,
    coalesce(sum(coalesce(o.compressed_size_bytes, o.raw_size_bytes)) filter (where o.duplicate_of is null), 0)::bigint as storage_bytes
from due
left join {{ ref('stg_content__content_objects') }} as o on due.tenant_id = o.tenant_id
group by due.tenant_id
