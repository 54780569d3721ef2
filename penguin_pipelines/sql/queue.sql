-- name: bound
-- Keeps one look at the queue short: a sensor that hangs is worse than a tick that fails.
set local statement_timeout = '5s'

-- name: open_dead_letters
-- Open dead letters per queue: how many, since when, the newest one and the class of its error.
select
  queue_name as queue,
  count(*) as open,
  min(failure_timestamp) as oldest,
  (array_agg(id::text order by failure_timestamp desc, id))[1] as newest,
  (array_agg(left(coalesce(error_details ->> 'class', split_part(failure_reason, ':', 1)), 80) order by failure_timestamp desc, id))[1]
    as error_class
from dead_letter_jobs
where not is_resolved
group by queue_name
order by min(failure_timestamp)
