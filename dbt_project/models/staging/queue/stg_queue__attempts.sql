-- Attempts that have ended, one line of job_logs each. Lines that the source has purged stay: they happened. What an older
-- line does not say of itself, its job may.
select
    l.id as log_id,
    l.job_id,
    l.tenant_id,
    coalesce(l.context ->> 'queue', j.queue_name, 'unknown') as queue_name,
    coalesce(l.context ->> 'type', j.job_type, 'unknown') as job_type,
    l.status,
    l.attempt_number,
    l.worker_id,
    (l.context ->> 'run')::timestamptz as due,
    l.started,
    l.finished,
    coalesce(l.duration_ms, 0) as duration_ms,
    greatest(0, extract(epoch from l.started - (l.context ->> 'run')::timestamptz) * 1000)::bigint as wait_ms,
    case when l.status <> 'success' then coalesce(l.context ->> 'error_class', 'unknown') end as error_class,
    l.created
from {{ source('queue', 'job_logs') }} as l
left join {{ source('queue', 'jobs') }} as j on l.job_id = j.id and l.context ->> 'queue' is null
where l.status in ('success', 'retry', 'failed')
