{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

select
    queue_name,
    job_type,
    error_class,
    sum(failures)::bigint as failures,
    sum(dead_lettered)::bigint as dead_lettered,
    count(distinct tenant_id) filter (where tenant_id <> '00000000-0000-0000-0000-000000000000') as tenants,
    sum(duration_ms)::bigint as duration_ms,
    min(first_seen) as first_seen,
    max(last_seen) as last_seen,
    {{ rate('sum(failures)', 'sum(sum(failures)) over (partition by queue_name)') }} as share_of_queue,
    {{ rate('sum(failures)', 'sum(sum(failures)) over ()') }} as share_of_all,
    {{ data_as_of(['queue']) }} as data_as_of
from {{ ref('int_queue_failures') }}
group by queue_name, job_type, error_class
