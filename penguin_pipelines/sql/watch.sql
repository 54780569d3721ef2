-- name: bound
-- Keeps one look at the queues short: a sensor that hangs is worse than a tick that fails.
set local statement_timeout = '5s'

-- name: sample
-- The state of every queue in one statement. Each part goes through an index and reads at most %(most)s rows of a queue.
with ended as materialized (
  -- The newest lines are read through the time index; a very busy queue is judged by a part of them.
  select context ->> 'queue' as queue, tenant_id, status
  from job_logs
  where created > now() - interval '5 minutes' and status in ('success', 'retry', 'failed')
  limit 200000
),
by_tenant as materialized (
  select
    queue, tenant_id, count(*) as attempts, count(*) filter (where status <> 'success') as failed,
    count(*) filter (where status <> 'retry') as ended
  from ended
  group by queue, tenant_id
),
attempts as (
  select queue, sum(attempts) as attempts, sum(failed) as failed, sum(ended) as ended from by_tenant group by queue
),
running as (
  select
    j.queue_name as queue,
    count(*) filter (where j.status = 'processing') as running,
    count(*) filter (
      where j.status = 'processing' and j.heartbeat > now() - interval '60 seconds'
        and j.started > now() - make_interval(secs => q.timeout_seconds + 60)
    ) as alive,
    count(*) filter (where j.status = 'processing' and coalesce(j.heartbeat, j.started, j.updated) < now() - %(silence)s * interval '1 second') as lost,
    array_remove(array_agg(distinct j.worker_id) filter (
      where j.status = 'processing' and coalesce(j.heartbeat, j.started, j.updated) < now() - %(silence)s * interval '1 second'
    ), null) as silent_workers,
    count(*) filter (where j.status = 'migrated_to_redis') as migrated,
    count(*) filter (where j.status = 'migrated_to_redis' and coalesce(j.heartbeat, j.processed, j.updated) < now() - interval '10 minutes') as stranded
  from jobs as j
  join job_queues as q on q.name = j.queue_name
  where j.status in ('processing', 'migrated_to_redis')
  group by j.queue_name
),
dead as (
  select
    queue_name as queue, count(*) as open, extract(epoch from now() - min(failure_timestamp)) as oldest_seconds,
    (array_agg(left(coalesce(error_details ->> 'class', split_part(failure_reason, ':', 1)), 80) order by failure_timestamp desc, id))[1]
      as error_class
  from dead_letter_jobs
  where not is_resolved
  group by queue_name
),
failed as (
  select queue_name as queue, count(*) as day, count(*) filter (where failed > now() - interval '1 hour') as hour
  from (
    select queue_name, failed from jobs where status = 'failed' and failed > now() - interval '24 hours' order by failed desc limit 100000
  ) as f
  group by queue_name
),
before as (
  select
    queue_name as queue, min(pending_jobs) as least, extract(epoch from now() - min(sampled)) as seconds, count(*) as samples
  from queue_health
  where sampled > now() - interval '11 minutes' and sampled <= now() and metadata ? 'lanes'
  group by queue_name
)
select
  q.name as queue,
  q.is_active,
  w.high,
  w.normal,
  w.low,
  coalesce(r.migrated, 0) as migrated,
  w.spent,
  w.delayed,
  coalesce(r.running, 0) as running,
  coalesce(r.alive, 0) as alive,
  coalesce(r.lost, 0) as lost,
  coalesce(r.silent_workers, '{}') as silent_workers,
  coalesce(r.stranded, 0) as stranded,
  w.oldest_seconds,
  w.mean_seconds,
  w.high_seconds,
  w.normal_seconds,
  w.low_seconds,
  w.first_tenant::text as first_tenant,
  w.first_tenant_seconds,
  coalesce(t.ended, 0) as first_tenant_ended,
  coalesce(a.attempts, 0)::bigint as attempts,
  coalesce(a.failed, 0)::bigint as failed,
  coalesce(a.ended, 0)::bigint as ended,
  coalesce(d.open, 0) as dead_open,
  coalesce(d.oldest_seconds, 0)::float8 as dead_seconds,
  coalesce(d.error_class, '') as dead_class,
  coalesce(f.hour, 0) as failed_1h,
  coalesce(f.day, 0) as failed_24h,
  coalesce(b.least, 0) as least_before,
  coalesce(b.seconds, 0)::float8 as before_seconds,
  coalesce(b.samples, 0) as samples_before
from job_queues as q
cross join lateral (
  select
    count(*) filter (where due and lane = 1) as high,
    count(*) filter (where due and lane = 2) as normal,
    count(*) filter (where due and lane = 3) as low,
    count(*) filter (where spent) as spent,
    count(*) filter (where age < 0) as delayed,
    coalesce(max(age) filter (where due), 0)::float8 as oldest_seconds,
    coalesce(avg(age) filter (where due), 0)::float8 as mean_seconds,
    coalesce(max(age) filter (where due and lane = 1), 0)::float8 as high_seconds,
    coalesce(max(age) filter (where due and lane = 2), 0)::float8 as normal_seconds,
    coalesce(max(age) filter (where due and lane = 3), 0)::float8 as low_seconds,
    (array_agg(tenant_id order by age desc) filter (where due and lane < 3))[1] as first_tenant,
    coalesce(max(age) filter (where due and lane < 3), 0)::float8 as first_tenant_seconds
  from (
    select
      penguin.job_lane(j.priority) as lane, j.tenant_id, extract(epoch from now() - j.run) as age,
      j.attempt_count >= j.max_attempts as spent,
      j.run <= now() and (j.expires is null or j.expires > now()) and j.attempt_count < j.max_attempts as due
    from jobs as j
    where j.queue_name = q.name and j.status = 'queued'
    order by j.run
    limit %(most)s
  ) as j
) as w
left join running as r on r.queue = q.name
left join attempts as a on a.queue = q.name
left join by_tenant as t on t.queue = q.name and t.tenant_id is not distinct from w.first_tenant
left join dead as d on d.queue = q.name
left join failed as f on f.queue = q.name
left join before as b on b.queue = q.name
order by q.name

-- name: tables
-- Rows that updates and deletes left behind in the tables that workers claim from, partitions together.
select
  regexp_replace(relname, '_\d{8}$', '') as name, sum(n_live_tup)::bigint as live, sum(n_dead_tup)::bigint as dead
from pg_stat_user_tables
where schemaname = 'public' and (relname in ('jobs', 'dead_letter_jobs') or relname like 'job\_logs\_%%')
group by 1
order by 1

-- name: horizon
-- The oldest snapshot that keeps vacuum from taking dead rows of this database away, or nothing.
select seconds, who
from (
  select
    extract(epoch from now() - a.xact_start)::float8 as seconds, format('process %%s (%%s)', a.pid, coalesce(nullif(a.application_name, ''), 'no name')) as who
  from pg_stat_activity as a
  where a.datname = current_database() and a.backend_xmin is not null and a.pid <> pg_backend_pid() and a.xact_start is not null
  union all
  select extract(epoch from now() - p.prepared)::float8, format('prepared transaction %%s', p.gid)
  from pg_prepared_xacts as p
  where p.database = current_database()
) as holders
order by seconds desc
limit 1

-- name: lock_watch
-- One watcher at a time; another one skips its turn.
select pg_try_advisory_xact_lock(7201120)

-- name: record_sample
-- The sample of this minute, once; a later look within the minute changes nothing.
insert into queue_health (
  queue_name, sampled, pending_jobs, redis_depth, processing_jobs, failed_jobs_24h, dead_letter_open, oldest_pending_seconds,
  health_status, alerts_generated, metadata
)
select
  s.queue, date_trunc('minute', now()), s.waiting, s.hints, s.running, s.failed_24h, s.dead, s.oldest, s.health, s.alerts, s.details
from unnest(
  %(queues)s::text[], %(waiting)s::integer[], %(hints)s::integer[], %(running)s::integer[], %(failed)s::integer[], %(dead)s::integer[],
  %(oldest)s::integer[], %(health)s::text[], %(alerts)s::integer[], %(details)s::jsonb[]
) as s(queue, waiting, hints, running, failed_24h, dead, oldest, health, alerts, details)
on conflict (queue_name, sampled) do nothing
returning queue_name

-- name: purge_samples
-- Samples past their retention, some at a time.
delete from queue_health
where (id, sampled) in (select id, sampled from queue_health where sampled < now() - interval '90 days' order by sampled limit 5000)

-- name: open_alerts
-- Alerts that are open, oldest first; of the rows only one opening of each.
select id, queue_name as queue, rule, level, observed::float8, threshold::float8, message, opened, last_notified
from queue_alerts
where closed is null
order by opened, id

-- name: recent_alerts
-- Alerts by their opening, newest first.
select id, queue_name as queue, rule, level, observed::float8, threshold::float8, message, opened, last_notified, closed
from queue_alerts
where %(closed)s or closed is null
order by closed is null desc, array_position(array['page', 'critical', 'high', 'warning', 'notice'], level::text), opened desc, id
limit %(limit)s

-- name: open_alert
-- Opens an alert; none when it is open already.
insert into queue_alerts (queue_name, rule, level, observed, threshold, message)
values (%(queue)s, %(rule)s, %(level)s, %(observed)s, %(threshold)s, %(message)s)
on conflict (queue_name, rule, level) where closed is null do nothing
returning id

-- name: close_alert
-- Closes an alert that is open.
update queue_alerts set closed = now() where id = %(id)s and closed is null returning id

-- name: notify
-- Puts a notification into the outbox for each channel; a reminder counts on from the last one and waits for those before it.
insert into penguin.alert_notifications (alert_id, kind, channel, number)
select
  %(alert)s, %(kind)s, c.channel,
  (select count(*) from penguin.alert_notifications as n where n.alert_id = %(alert)s and n.kind = %(kind)s and n.channel = c.channel)
from unnest(%(channels)s::text[]) as c(channel)
where %(kind)s <> 'reminder' or not exists (
  select from penguin.alert_notifications as n
  where n.alert_id = %(alert)s and n.channel = c.channel and n.delivered is null and n.given_up is null
)
on conflict (alert_id, kind, channel, number) do nothing
returning id

-- name: take_notifications
-- The next notifications of a channel: whoever takes them holds them until the next attempt, which comes later each time.
update penguin.alert_notifications as n
set attempts = n.attempts + 1, next_attempt = now() + least(30 * power(2, least(n.attempts, 10)), 900) * interval '1 second'
from (
  select id from penguin.alert_notifications
  where channel = %(channel)s and delivered is null and given_up is null and next_attempt <= now()
  order by id
  limit %(limit)s
  for update skip locked
) as t, queue_alerts as a
where n.id = t.id and a.id = n.alert_id
returning
  n.id, n.alert_id, n.kind, n.attempts, a.queue_name as queue, a.rule, a.level, a.observed::float8, a.threshold::float8, a.message, a.opened, a.closed

-- name: delivered
-- Notifications that arrived, and when their alerts were last told of.
with done as (
  update penguin.alert_notifications set delivered = now(), last_error = null where id = any (%(ids)s) and delivered is null returning alert_id
)
update queue_alerts set last_notified = now() where id in (select alert_id from done)

-- name: undelivered
-- Notifications that did not arrive: why, and given up after a day.
update penguin.alert_notifications
set last_error = %(error)s, given_up = case when made < now() - interval '24 hours' then now() end
where id = any (%(ids)s) and delivered is null

-- name: waiting_notifications
-- Notifications that have not arrived, by channel: how many, since when, why.
select
  channel, count(*) filter (where given_up is null) as waiting, count(*) filter (where given_up is not null) as given_up, min(made) as since,
  (array_agg(last_error order by id desc) filter (where last_error is not null))[1] as last_error
from penguin.alert_notifications
where delivered is null and made > now() - interval '7 days'
group by channel
order by channel

-- name: held_jobs
-- Jobs of a queue that one worker holds, with their tokens; of some of them when ids are given.
select
  id, queue_name, job_type, payload::text, tenant_id, user_id, correlation_id, attempt_count, max_attempts, lease_token, started, run
from jobs
where queue_name = %(queue)s and status = 'processing' and worker_id = %(worker)s and lease_token is not null
  and (%(ids)s::uuid[] is null or id = any (%(ids)s::uuid[]))
order by started, id
