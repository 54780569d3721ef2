{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['month', 'smtp_ip_address_id', 'tenant_id'],
    nullable_keys=['tenant_id'],
    touched='touched_ip_months',
    touched_by=['month', 'smtp_ip_address_id'],
    online_date='month',
    meta={'owner': 'data platform', 'dagster': {'group': 'infrastructure'}}
) }}

with days as (

    {{ days_of_months('infrastructure_analytics', ['smtp_ip_address_id'], touched_ip_months()) }}

)

select
    month,
    (array_agg(vps_instance_id order by activity_date desc))[1] as vps_instance_id,
    smtp_ip_address_id,
    tenant_id,
    {{ message_counters() }},
    count(*)::integer as active_days,
    sum(ip_cost)::numeric(12, 4) as ip_cost,
    sum(vps_cost)::numeric(12, 4) as vps_cost,
    {{ is_final(last_day_of('month')) }} as is_final
from days
group by month, smtp_ip_address_id, tenant_id
