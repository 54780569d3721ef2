{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['event_hour', 'queue_name', 'job_type', 'tenant_id'],
    nullable_keys=['tenant_id'],
    touched='touched_queue_hours',
    touched_by=['event_hour'],
    partition_date='event_hour'
) }}

with attempts as (

    select
        a.*,
        date_trunc('hour', a.started, 'UTC') as event_hour,
        {{ queue_class('a.wait_ms') }} as wait_class,
        {{ queue_class('a.duration_ms') }} as duration_class
    from {{ ref('stg_queue__attempts') }} as a
    {%- if not is_full_build() %}
    inner join ({{ touched_keys(touched_queue_hours) }}) as touched
        on a.started >= touched.event_hour and a.started < touched.event_hour + interval '1 hour'
    {%- endif %}
    where a.started >= {{ hours_from() }}

)

select
    event_hour,
    queue_name,
    job_type,
    tenant_id,
    count(*)::integer as attempts,
    (count(*) filter (where status = 'success'))::integer as completed,
    (count(*) filter (where status <> 'success'))::integer as failed,
    (count(*) filter (where status = 'retry'))::integer as retried,
    (count(*) filter (where status = 'failed'))::integer as dead_lettered,
    (count(*) filter (where status <> 'retry' and attempt_number > 1))::integer as ended_after_retry,
    count(wait_ms)::integer as waits,
    coalesce(sum(wait_ms), 0)::bigint as wait_ms,
    sum(duration_ms)::bigint as duration_ms,
    coalesce(sum(duration_ms) filter (where status <> 'success'), 0)::bigint as failed_duration_ms,
    {{ queue_classes('wait_class') }} as wait_classes,
    {{ queue_classes('duration_class') }} as duration_classes
from attempts
group by event_hour, queue_name, job_type, tenant_id
