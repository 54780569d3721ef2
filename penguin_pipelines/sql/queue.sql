-- name: enqueue
-- Jobs in one statement, for the tenant of the transaction or, without one around it, for the tenant given; what a queue does not say comes from its defaults. An open job with the same key is left alone.
with context as materialized (
  select set_config('app.current_tenant_id', coalesce(%(tenant)s, current_setting('app.current_tenant_id', true), ''), true)
),
given as (
  select * from unnest(
    %(ids)s::uuid[], %(queues)s::text[], %(types)s::text[], %(payloads)s::jsonb[], %(priorities)s::integer[], %(attempts)s::integer[],
    %(runs)s::timestamptz[], %(expires)s::timestamptz[], %(tenants)s::uuid[], %(users)s::uuid[], %(correlations)s::text[], %(keys)s::text[]
  ) as g(id, queue_name, job_type, payload, priority, max_attempts, run, expires, tenant_id, user_id, correlation_id, idempotency_key)
)
insert into jobs (id, queue_name, job_type, payload, priority, max_attempts, run, expires, tenant_id, user_id, correlation_id, idempotency_key)
select
  g.id, q.name, g.job_type, g.payload, p.priority,
  coalesce(g.max_attempts, case when p.priority <= 50 then greatest(q.retry_attempts, 5) else q.retry_attempts end),
  coalesce(g.run, now()), g.expires, g.tenant_id, g.user_id, g.correlation_id, g.idempotency_key
from given as g
-- Joined, so that it is set before a row arrives.
cross join context
join job_queues as q on q.name = g.queue_name
cross join lateral (select coalesce(g.priority, q.default_priority) as priority) as p
on conflict (queue_name, idempotency_key) where idempotency_key is not null and status in ('queued', 'migrated_to_redis', 'processing')
do nothing
returning id, queue_name, priority, run <= now() as due

-- name: open_job_of_key
-- The open job that holds an idempotency key.
select id, queue_name, priority, run <= now() as due
from jobs
where queue_name = %(queue)s and idempotency_key = %(key)s and status in ('queued', 'migrated_to_redis', 'processing')

-- name: staging
-- Where COPY delivers: it does not write into a table under row level security.
create temporary table if not exists incoming_jobs (
  id uuid, queue_name text, job_type text, payload jsonb, priority integer, max_attempts integer, run timestamptz, expires timestamptz,
  tenant_id uuid, user_id uuid, correlation_id text, idempotency_key text
) on commit delete rows

-- name: copy_staging
-- Rows of a bulk enqueue.
copy incoming_jobs from stdin

-- name: enqueue_staged
-- As enqueue, from the staging table.
insert into jobs (id, queue_name, job_type, payload, priority, max_attempts, run, expires, tenant_id, user_id, correlation_id, idempotency_key)
select
  g.id, q.name, g.job_type, g.payload, p.priority,
  coalesce(g.max_attempts, case when p.priority <= 50 then greatest(q.retry_attempts, 5) else q.retry_attempts end),
  coalesce(g.run, now()), g.expires, g.tenant_id, g.user_id, g.correlation_id, g.idempotency_key
from pg_temp.incoming_jobs as g
join job_queues as q on q.name = g.queue_name
cross join lateral (select coalesce(g.priority, q.default_priority) as priority) as p
on conflict (queue_name, idempotency_key) where idempotency_key is not null and status in ('queued', 'migrated_to_redis', 'processing')
do nothing
returning id, queue_name, priority, run <= now() as due

-- name: unknown_queues
-- Which of these queues do not exist, and the names that do.
select
  array(select distinct n from unnest(%(queues)s::text[]) as n where n not in (select name from job_queues)) as unknown,
  array(select name from job_queues order by name) as known

-- name: lock_claim
-- One claim of a queue at a time, so that its concurrency limit holds; released at commit.
-- That commit does not wait for the disk. A claim that a crash of the server takes back leaves a job that waits, and its
-- worker's token ends nothing; no end survives without its claim, because the log is written in order.
select pg_advisory_xact_lock(7201118, hashtext(%(queue)s)), set_config('synchronous_commit', 'off', true)

-- name: claim
-- Leases due jobs of one queue: lane by lane, tenants in turn after the last one served, the lowest rank first within a tenant.
with recursive queue as materialized (
  select
    q.name, q.timeout_seconds,
    least(%(batch)s, q.max_concurrent_jobs - (
      select count(*) from jobs as r where r.queue_name = q.name and r.status = 'processing' and r.heartbeat > now() - interval '2 minutes')
    )::integer as room
  from job_queues as q
  where q.name = %(queue)s and q.is_active
),
picked as materialized (
  select c.id
  from queue as q
  -- Lane 0 holds low jobs that have aged into the normal lane. The branches of a nested loop run only as far as LIMIT asks for rows.
  cross join unnest(array[1, 0, 2, 3]) as l(lane)
  cross join lateral (
    (
      select j.id
      from jobs as j
      where l.lane = 0 and j.queue_name = q.name and j.status = 'queued' and j.priority > 150
        and j.run <= now() - least(interval '4 hours', (j.priority - 150) * interval '10 minutes') and j.run <= now() - interval '10 minutes'
        and (j.expires is null or j.expires > now()) and j.attempt_count < j.max_attempts and coalesce(j.tenant_id, '00000000-0000-0000-0000-000000000000') <> all (%(barred)s::uuid[])
      order by j.run
      limit floor(q.room / 4.0 + random())::integer
    )
    union all
    (
      with recursive turn as (
        select p.part, f.tenant
        from (values (1), (2)) as p(part)
        cross join lateral (
          select coalesce(j.tenant_id, '00000000-0000-0000-0000-000000000000') as tenant
          from jobs as j
          where l.lane > 0 and j.queue_name = q.name and penguin.job_lane(j.priority) = l.lane and j.status = 'queued'
            and coalesce(j.tenant_id, '00000000-0000-0000-0000-000000000000') >= case p.part when 1 then %(after)s::uuid else '00000000-0000-0000-0000-000000000000' end
            and (p.part = 1 or coalesce(j.tenant_id, '00000000-0000-0000-0000-000000000000') < %(after)s::uuid)
          order by coalesce(j.tenant_id, '00000000-0000-0000-0000-000000000000')
          limit 1
        ) as f
        union all
        select t.part, f.tenant
        from turn as t
        cross join lateral (
          select coalesce(j.tenant_id, '00000000-0000-0000-0000-000000000000') as tenant
          from jobs as j
          where j.queue_name = q.name and penguin.job_lane(j.priority) = l.lane and j.status = 'queued'
            and coalesce(j.tenant_id, '00000000-0000-0000-0000-000000000000') > t.tenant
            and (t.part = 1 or coalesce(j.tenant_id, '00000000-0000-0000-0000-000000000000') < %(after)s::uuid)
          order by coalesce(j.tenant_id, '00000000-0000-0000-0000-000000000000')
          limit 1
        ) as f
      )
      select j.id
      from turn as t
      cross join lateral (
        select j.id
        from jobs as j
        where j.queue_name = q.name and penguin.job_lane(j.priority) = l.lane and j.status = 'queued'
          and coalesce(j.tenant_id, '00000000-0000-0000-0000-000000000000') = t.tenant and t.tenant <> all (%(barred)s::uuid[])
          and penguin.job_rank(j.priority, j.run) <= penguin.job_rank(1000, now()) and j.run <= now()
          and (j.expires is null or j.expires > now()) and j.attempt_count < j.max_attempts
        -- The whole index, so that its order is used; the first three are constant here.
        order by
          j.queue_name, penguin.job_lane(j.priority), coalesce(j.tenant_id, '00000000-0000-0000-0000-000000000000'),
          penguin.job_rank(j.priority, j.run)
        limit %(quantum)s
      ) as j
    )
  ) as c
  limit (select greatest(room, 0) from queue)
),
locked as materialized (
  -- Not `status = 'queued'`: that would allow a walk over an index of all waiting jobs for each id.
  select j.ctid as at from jobs as j where j.id in (select id from picked) and j.status || '' = 'queued' for update skip locked
)
update jobs as j
set status = 'processing', started = now(), heartbeat = now(), worker_id = %(worker)s, lease_token = %(token)s,
  attempt_count = j.attempt_count + 1, change_xid = pg_current_xact_id(), updated = now()
from locked as l, queue as q
where j.ctid = l.at
returning
  j.id, j.queue_name, j.job_type, j.payload::text, j.tenant_id, j.user_id, j.correlation_id, j.attempt_count, j.max_attempts,
  q.timeout_seconds

-- name: complete
-- Ends attempts that went well, if their lease still holds. Null when all of them were taken, as is usual; else the ids that were.
-- Marks the change itself, as the claim does, which spares a call of the trigger for each row.
-- Only what runs has a token, so the status is not asked: it would invite a walk over every running job.
with done as (
  select * from unnest(
    %(ids)s::uuid[], %(tokens)s::uuid[], %(results)s::jsonb[], %(started)s::float8[], %(finished)s::float8[], %(milliseconds)s::integer[]
  ) as d(id, token, result, started, finished, milliseconds)
),
ended as (
  update jobs as j
  set status = 'completed', completed = to_timestamp(d.finished), result = d.result, lease_token = null, progress_percentage = 100,
    change_xid = pg_current_xact_id(), updated = now()
  from done as d
  where j.id = d.id and j.lease_token = d.token
  returning j.id, j.tenant_id, j.queue_name, j.job_type, j.correlation_id, j.attempt_count, j.worker_id, j.run, to_timestamp(d.started) as started, to_timestamp(d.finished) as finished,
    d.milliseconds
),
logged as (
  insert into job_logs (job_id, tenant_id, log_level, status, message, context, attempt_number, worker_id, duration_ms, started, finished)
  select
    id, tenant_id, 'info', 'success', 'completed',
    jsonb_build_object('queue', queue_name, 'type', job_type, 'correlation_id', correlation_id, 'run', run),
    attempt_count, worker_id, milliseconds, started, finished
  from ended
)
select case when (select count(*) from ended) < cardinality(%(ids)s::uuid[]) then array(select id from ended) end

-- name: fail
-- Ends attempts that went wrong, if their lease still holds: another try later, or a dead letter when none is left or would help.
with given as (
  select * from unnest(
    %(ids)s::uuid[], %(tokens)s::uuid[], %(terminal)s::boolean[], %(at_once)s::boolean[], %(classes)s::text[], %(messages)s::text[],
    %(details)s::jsonb[], %(started)s::float8[], %(finished)s::float8[], %(milliseconds)s::integer[]
  ) as g(id, token, terminal, at_once, class, message, details, started, finished, milliseconds)
),
held as (
  select
    g.*, j.worker_id as worker, j.run as due, g.terminal or j.attempt_count >= j.max_attempts as dead,
    case when g.at_once then 0 else
      least(q.backoff_base_seconds * power(q.backoff_multiplier, least(greatest(j.attempt_count, 1), 60) - 1), q.backoff_cap_seconds)
      * (0.75 + 0.5 * random())
    end as delay
  from given as g
  join jobs as j on j.id = g.id and (j.lease_token = g.token or g.token is null and j.lease_token is null and j.status in ('processing', 'queued'))
  join job_queues as q on q.name = j.queue_name
),
ended as (
  update jobs as j
  set status = case when h.dead then 'failed' else 'queued' end,
    failed = case when h.dead then now() end,
    -- A job that was cut short goes ahead of those of its time; behind a backlog it would wait a second time.
    run = case when h.dead then j.run when h.at_once then j.run - interval '1 millisecond' else now() + make_interval(secs => h.delay) end,
    last_error_message = h.message, error_details = h.details || jsonb_build_object('class', h.class),
    lease_token = null, heartbeat = null, worker_id = null
  from held as h
  where j.id = h.id and j.lease_token is not distinct from h.token
  returning
    j.id, j.tenant_id, j.queue_name, j.job_type, j.payload, j.correlation_id, j.attempt_count, j.priority, j.run, j.error_details,
    h.worker, h.dead, h.due, h.class, h.message, to_timestamp(h.started) as started, to_timestamp(h.finished) as finished, h.milliseconds
),
letters as (
  insert into dead_letter_jobs (original_job_id, tenant_id, queue_name, job_type, final_attempt, failure_reason, error_details, payload)
  select id, tenant_id, queue_name, job_type, attempt_count, class || ': ' || message, error_details, payload
  from ended
  where dead
  on conflict (original_job_id) do nothing
),
logged as (
  insert into job_logs (job_id, tenant_id, log_level, status, message, context, attempt_number, worker_id, duration_ms, started, finished)
  select
    id, tenant_id, case when dead then 'error' else 'warning' end, case when dead then 'failed' else 'retry' end, message,
    jsonb_build_object('queue', queue_name, 'type', job_type, 'correlation_id', correlation_id, 'run', due, 'error_class', class),
    attempt_count, worker, milliseconds, started, finished
  from ended
)
select id, dead, run from ended

-- name: log_refused
-- Says of results that came after their lease was lost that they were not taken.
insert into job_logs (job_id, tenant_id, log_level, message, context, attempt_number, worker_id)
select
  g.id, j.tenant_id, 'warning', 'Result refused: the lease was lost.', jsonb_build_object('lease_token', g.token, 'event', 'refused'),
  coalesce(j.attempt_count, 0), %(worker)s
from unnest(%(ids)s::uuid[], %(tokens)s::uuid[]) as g(id, token)
left join jobs as j on j.id = g.id

-- name: release
-- Gives jobs back that were not run: the attempt does not count. A time makes them wait until then.
update jobs as j
set status = 'queued', attempt_count = greatest(j.attempt_count - 1, 0), run = coalesce(g.run, j.run),
  started = null, heartbeat = null, worker_id = null, lease_token = null
from unnest(%(ids)s::uuid[], %(tokens)s::uuid[], %(runs)s::timestamptz[]) as g(id, token, run)
where j.id = g.id and j.lease_token = g.token
returning j.id

-- name: beat
-- Renews leases; ids that do not come back are lost.
update jobs as j
set heartbeat = now(), progress_percentage = coalesce(g.percentage, j.progress_percentage), progress_message = coalesce(g.message, j.progress_message)
from unnest(%(ids)s::uuid[], %(tokens)s::uuid[], %(percentages)s::integer[], %(messages)s::text[]) as g(id, token, percentage, message)
where j.id = g.id and j.lease_token = g.token
returning j.id

-- name: bound_sweep
-- A worker that freezes while it sweeps loses its turn.
select set_config('idle_in_transaction_session_timeout', %(frozen)s, true)

-- name: lock_sweep
-- One sweeper at a time; the others skip their turn.
select pg_try_advisory_xact_lock(7201119)

-- name: lost
-- Jobs whose worker has given no sign of life for longer than the lease, or that no attempt is left for.
select id, lease_token, started, 'LeaseLost' as class, format('Worker %%s gave no sign of life for %%s s.', coalesce(worker_id, '?'), %(lease)s::integer) as message
from jobs
where status = 'processing' and coalesce(heartbeat, started, updated) < now() - make_interval(secs => %(lease)s)
  and worker_id is distinct from %(orchestrator)s
union all
select id, lease_token, null, 'AttemptsUsed', 'The job waits without an attempt left.'
from jobs
where status = 'queued' and attempt_count >= max_attempts
limit 1000

-- name: let_go
-- Jobs of an orchestrator that has been away for long, given back: their runs went on without it, so the attempt does not count.
update jobs
set status = 'queued', attempt_count = greatest(attempt_count - 1, 0), started = null, heartbeat = null, worker_id = null, lease_token = null
where status = 'processing' and worker_id = %(orchestrator)s and coalesce(heartbeat, started, updated) < now() - %(away)s::interval
returning id

-- name: reclaim
-- Jobs that older programs moved to Redis and that nobody took: back to Postgres, the only truth.
update jobs
set status = 'queued', lease_token = null, heartbeat = null
where status = 'migrated_to_redis' and coalesce(heartbeat, processed, updated) < now() - interval '5 minutes'
returning id

-- name: expire
-- Jobs that nobody needs any more.
update jobs set status = 'expired' where status = 'queued' and expires is not null and expires <= now() returning id

-- name: became_due
-- Jobs whose time has come since the last sweep, for hints.
select id, queue_name, priority
from jobs
where status = 'queued' and run <= now() and run > now() - make_interval(secs => %(seconds)s)
order by run
limit 1000

-- name: stats
-- Each queue with its lanes: waiting, delayed, running, oldest wait, open dead letters, attempts of the last five minutes.
select
  q.name as queue, q.is_active, q.max_concurrent_jobs, coalesce(j.high, 0) as high, coalesce(j.normal, 0) as normal, coalesce(j.low, 0) as low,
  coalesce(j.high + j.normal + j.low, 0) as waiting, coalesce(j.delayed, 0) as delayed, coalesce(j.running, 0) as running,
  coalesce(extract(epoch from now() - j.oldest), 0)::bigint as oldest_wait_seconds, coalesce(d.letters, 0) as dead_letters,
  coalesce(l.succeeded, 0) as succeeded_5m, coalesce(l.failed, 0) as failed_5m
from job_queues as q
left join (
  select
    queue_name,
    count(*) filter (where status <> 'processing' and run <= now() and penguin.job_lane(priority) = 1) as high,
    count(*) filter (where status <> 'processing' and run <= now() and penguin.job_lane(priority) = 2) as normal,
    count(*) filter (where status <> 'processing' and run <= now() and penguin.job_lane(priority) = 3) as low,
    count(*) filter (where status <> 'processing' and run > now()) as delayed,
    count(*) filter (where status = 'processing') as running,
    min(run) filter (where status <> 'processing' and run <= now()) as oldest
  from jobs
  where status in ('queued', 'migrated_to_redis', 'processing')
  group by queue_name
) as j on j.queue_name = q.name
left join (select queue_name, count(*) as letters from dead_letter_jobs where not is_resolved group by queue_name) as d on d.queue_name = q.name
left join (
  select context ->> 'queue' as queue, count(*) filter (where status = 'success') as succeeded, count(*) filter (where status in ('retry', 'failed')) as failed
  from job_logs
  where created > now() - interval '5 minutes'
  group by 1
) as l on l.queue = q.name
where %(queue)s::text is null or q.name = %(queue)s
order by q.name

-- name: set_active
-- Pauses or resumes a queue; jobs that run are not touched.
update job_queues set is_active = %(active)s where name = %(queue)s returning name

-- name: job
-- One job by id.
select id, queue_name, job_type, status, priority, attempt_count, run <= now() as due from jobs where id = %(id)s for update

-- name: run_now
-- Brings a waiting job forward to this moment.
update jobs set run = now() where id = %(id)s and status = 'queued' returning id, queue_name, priority, true as due

-- name: cancel
-- Takes a job back that has not begun.
update jobs set status = 'cancelled' where id = %(id)s and status = 'queued' returning id

-- name: dead_letters
-- Dead letters, newest first.
select
  id, original_job_id, queue_name as queue, job_type, tenant_id, final_attempt, failure_reason, failure_timestamp, retry_count, is_resolved, replay_job_id
from dead_letter_jobs
where (%(queue)s::text is null or queue_name = %(queue)s) and (%(all)s or not is_resolved)
order by failure_timestamp desc, id
limit %(limit)s

-- name: dead_letter
-- One dead letter by its own id or its job's, locked so that it is replayed once.
select id, replay_job_id from dead_letter_jobs where id = %(id)s or original_job_id = %(id)s for update

-- name: replay
-- A new job like the dead one, linked to its letter. What the purge took is in the letter or falls back to the queue's defaults.
with letter as (select * from dead_letter_jobs where id = %(id)s),
fresh as (
  insert into jobs (id, queue_name, job_type, payload, priority, max_attempts, tenant_id, user_id, correlation_id)
  select
    %(job)s, d.queue_name, d.job_type, d.payload, coalesce(j.priority, q.default_priority), coalesce(j.max_attempts, q.retry_attempts),
    d.tenant_id, j.user_id, j.correlation_id
  from letter as d
  join job_queues as q on q.name = d.queue_name
  left join jobs as j on j.id = d.original_job_id
  returning id, queue_name, priority
),
linked as (
  update dead_letter_jobs as d
  set replay_job_id = f.id, retry_count = d.retry_count + 1, last_retry = now(), is_resolved = true, resolved = now(),
    resolution_notes = 'replayed'
  from fresh as f
  where d.id = %(id)s
)
select id, queue_name, priority, true as due from fresh

-- name: purge_jobs
-- Deletes ended jobs past their retention, some at a time.
delete from jobs
where id in (
  select id from jobs
  where (status = 'completed' and completed < now() - make_interval(days => %(days)s))
    or (status in ('cancelled', 'expired') and updated < now() - make_interval(days => %(days)s))
    or (status = 'failed' and failed < now() - interval '1 year')
  limit %(limit)s
  for update skip locked
)
returning id

-- name: purge_logs
-- Deletes log lines past their retention, some at a time; whole days leave by their partition.
delete from job_logs
where (id, created) in (
  select id, created from job_logs
  where created < now() - make_interval(days => %(days)s)
    and (log_level not in ('error', 'fatal') or created < now() - make_interval(days => %(error_days)s))
  limit %(limit)s
)
returning id

-- name: extend_partitions
-- Partitions ahead for every table of the tier.
select penguin.extend_partitions()
