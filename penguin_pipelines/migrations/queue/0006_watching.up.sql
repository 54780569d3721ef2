-- What watching the queues needs: one sample per queue and minute, alerts of the tier itself, an outbox of notifications, the dashboard.
-- When: before the deploy. Locks: writers of queue_health and queue_alerts wait for a moment; both are small.

create unique index queue_health_queue_name_sampled_key on queue_health (queue_name, sampled);
drop index queue_health_queue_name_sampled_desc_idx;

alter table queue_alerts alter column queue_name drop not null;
comment on column queue_alerts.queue_name is 'null for an alert of the whole tier';
drop index queue_alerts_queue_name_rule_level_key;
create unique index queue_alerts_queue_name_rule_level_key on queue_alerts (queue_name, rule, level) nulls not distinct where closed is null;

-- Written in the transaction that opens or closes an alert, delivered after it: a crash between the two loses nothing.
create table penguin.alert_notifications (
  id bigint generated always as identity primary key,
  alert_id uuid not null references queue_alerts (id) on delete cascade,
  kind text not null,
  channel text not null,
  number integer not null default 0,
  made timestamptz not null default now(),
  attempts integer not null default 0,
  next_attempt timestamptz not null default now(),
  delivered timestamptz,
  given_up timestamptz,
  last_error text,
  constraint alert_notifications_kind_allowed check (kind in ('opened', 'reminder', 'closed')),
  constraint alert_notifications_channel_allowed check (channel in ('webhook', 'slack', 'email')),
  unique (alert_id, kind, channel, number)
);
comment on table penguin.alert_notifications is 'Outbox: what is to be told of an alert, through which channel, and whether it was.';
create index alert_notifications_waiting_idx on penguin.alert_notifications (next_attempt) where delivered is null and given_up is null;
grant select, insert, update, delete on penguin.alert_notifications to pm_worker;
grant select on penguin.alert_notifications to pm_loader, pm_staff;

create view queue_health_dashboard with (security_invoker = true) as
select
  q.name as queue_name,
  w.waiting,
  h.redis_depth,
  r.running,
  f.failed_1h,
  f.failed_24h,
  round(l.failed::numeric / nullif(l.attempts, 0), 4) as failure_rate_5m,
  coalesce(extract(epoch from now() - w.oldest), 0)::bigint as oldest_waiting_seconds,
  t.wait_ms_p95,
  p.duration_ms_p95,
  round(l.ended / 5.0, 1) as throughput_per_minute,
  d.dead_letter_open,
  r.workers_alive,
  case
    when w.waiting > 1000 or f.failed_1h > 10 then 'red'
    when w.waiting >= 100 then 'yellow'
    else 'green'
  end as colour
from job_queues as q
cross join lateral (
  select count(*) as waiting, min(run) as oldest
  from jobs
  where queue_name = q.name and status in ('queued', 'migrated_to_redis') and run <= now() and (expires is null or expires > now())
) as w
cross join lateral (
  select count(*) as running, count(distinct worker_id) filter (where heartbeat > now() - interval '60 seconds') as workers_alive
  from jobs
  where queue_name = q.name and status = 'processing'
) as r
cross join lateral (
  select count(*) as failed_24h, count(*) filter (where failed > now() - interval '1 hour') as failed_1h
  from jobs
  where queue_name = q.name and status = 'failed' and failed > now() - interval '24 hours'
) as f
cross join lateral (
  select (percentile_cont(0.95) within group (order by extract(epoch from greatest(started - run, interval '0'))) * 1000)::bigint as wait_ms_p95
  from jobs
  where queue_name = q.name and status = 'completed' and completed > now() - interval '1 hour'
) as t
cross join lateral (
  select (percentile_cont(0.95) within group (order by duration_ms))::bigint as duration_ms_p95
  from job_logs
  where created > now() - interval '1 hour' and context ->> 'queue' = q.name and duration_ms is not null
) as p
cross join lateral (
  select
    count(*) as attempts, count(*) filter (where status in ('retry', 'failed')) as failed,
    count(*) filter (where status in ('success', 'failed')) as ended
  from job_logs
  where created > now() - interval '5 minutes' and context ->> 'queue' = q.name and status in ('success', 'retry', 'failed')
) as l
cross join lateral (
  select count(*) as dead_letter_open from dead_letter_jobs where queue_name = q.name and not is_resolved
) as d
left join lateral (
  select redis_depth from queue_health where queue_name = q.name and sampled > now() - interval '1 day' order by sampled desc limit 1
) as h on true;
comment on view queue_health_dashboard is 'The queue page of operations, live: depth, waits, throughput, failures, workers and colour of each queue.';
grant select on queue_health_dashboard to pm_worker, pm_staff, pm_loader, pm_etl;
