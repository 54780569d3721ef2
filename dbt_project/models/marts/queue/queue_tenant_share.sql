{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

-- Who takes how much of a queue: a tenant whose share of the work is far above its share of the attempts has slow jobs.
select
    {{ utc_date('event_hour') }} as activity_date,
    queue_name,
    tenant_id,
    sum(attempts)::bigint as attempts,
    sum(completed + dead_lettered)::bigint as ended,
    sum(duration_ms)::bigint as duration_ms,
    {{ rate('sum(attempts)', 'sum(sum(attempts)) over of_queue') }} as share_of_attempts,
    {{ rate('sum(duration_ms)', 'sum(sum(duration_ms)) over of_queue') }} as share_of_work,
    round(sum(wait_ms)::numeric / nullif(sum(waits), 0))::bigint as wait_mean_ms,
    {{ data_as_of(['queue']) }} as data_as_of
from {{ ref('queue_analytics') }}
group by {{ utc_date('event_hour') }}, queue_name, tenant_id
window of_queue as (partition by {{ utc_date('event_hour') }}, queue_name)
