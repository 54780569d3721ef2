{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['event_hour', 'queue_name', 'job_type', 'error_class', 'tenant_id'],
    touched='touched_queue_hours',
    touched_by=['event_hour'],
    online_date='event_hour',
    indexes=[{'columns': ['event_hour', 'queue_name', 'job_type', 'error_class', 'tenant_id'], 'unique': true}]
) }}

-- Failed attempts by the hour in which they began and the class of their error. Jobs of the platform have the tenant of zeroes.
with attempts as (

    select a.*, date_trunc('hour', a.started, 'UTC') as event_hour
    from {{ ref('stg_queue__attempts') }} as a
    {%- if not is_full_build() %}
    inner join ({{ touched_keys(touched_queue_hours) }}) as touched
        on a.started >= touched.event_hour and a.started < touched.event_hour + interval '1 hour'
    {%- endif %}
    where a.status <> 'success' and a.started >= {{ hours_from() }}

)

select
    event_hour,
    queue_name,
    job_type,
    error_class,
    coalesce(tenant_id, '00000000-0000-0000-0000-000000000000') as tenant_id,
    count(*)::integer as failures,
    (count(*) filter (where status = 'failed'))::integer as dead_lettered,
    sum(duration_ms)::bigint as duration_ms,
    min(coalesce(finished, started)) as first_seen,
    max(coalesce(finished, started)) as last_seen
from attempts
group by event_hour, queue_name, job_type, error_class, coalesce(tenant_id, '00000000-0000-0000-0000-000000000000')
