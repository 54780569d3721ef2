{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

-- Time of workers that went into attempts that failed.
select
    {{ utc_date('event_hour') }} as activity_date,
    queue_name,
    job_type,
    sum(failed)::bigint as failed,
    sum(retried)::bigint as retried,
    sum(dead_lettered)::bigint as dead_lettered,
    sum(duration_ms)::bigint as duration_ms,
    sum(failed_duration_ms)::bigint as wasted_ms,
    {{ rate('sum(failed_duration_ms)', 'sum(duration_ms)') }} as waste_rate,
    {{ ratio('sum(attempts)', 'sum(completed + dead_lettered)') }} as attempts_per_job,
    {{ data_as_of(['queue']) }} as data_as_of
from {{ ref('queue_analytics') }}
group by {{ utc_date('event_hour') }}, queue_name, job_type
