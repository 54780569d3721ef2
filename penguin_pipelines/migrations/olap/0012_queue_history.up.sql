-- History of the queue: attempts by the hour in which they began, kept when jobs and their log lines are purged.
-- When: before the deploy. Locks: ACCESS EXCLUSIVE on ops.touched_slices for a moment; loads and builds wait for it.

alter table ops.touched_slices add column event_hour timestamptz;
alter table ops.touched_slices drop constraint touched_slices_kind_allowed;
alter table ops.touched_slices add constraint touched_slices_kind_allowed check (kind in ('all', 'message', 'entity', 'hour'));
comment on column ops.touched_slices.kind is 'all: everything; message: one message, with the keys it had before or has now; entity: a row of another table; hour: what happened in an hour';
comment on column ops.touched_slices.event_hour is 'start of the UTC hour for kind hour';

create table marts.queue_analytics (
  id bigint generated always as identity,
  event_hour timestamptz not null,
  queue_name varchar(100) not null,
  job_type varchar(100) not null,
  tenant_id uuid,
  attempts integer not null default 0,
  completed integer not null default 0,
  failed integer not null default 0,
  retried integer not null default 0,
  dead_lettered integer not null default 0,
  ended_after_retry integer not null default 0,
  waits integer not null default 0,
  wait_ms bigint not null default 0,
  duration_ms bigint not null default 0,
  failed_duration_ms bigint not null default 0,
  wait_classes integer[] not null,
  duration_classes integer[] not null,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  primary key (event_hour, id),
  unique nulls not distinct (event_hour, queue_name, job_type, tenant_id),
  constraint queue_analytics_rule_1 check (attempts = completed + failed),
  constraint queue_analytics_rule_2 check (failed = retried + dead_lettered),
  constraint queue_analytics_rule_3 check (least(completed, retried, dead_lettered, ended_after_retry, waits, wait_ms, duration_ms, failed_duration_ms) >= 0),
  constraint queue_analytics_rule_4 check (waits <= attempts and ended_after_retry <= completed + dead_lettered and failed_duration_ms <= duration_ms)
) partition by range (event_hour);
comment on table marts.queue_analytics is 'Attempts of jobs by the UTC hour in which they began, queue, job type and tenant; every figure can be summed.';
comment on column marts.queue_analytics.event_hour is 'UTC hour in which the attempt began';
comment on column marts.queue_analytics.tenant_id is 'null for jobs of the platform itself';
comment on column marts.queue_analytics.attempts is 'attempts that have ended';
comment on column marts.queue_analytics.failed is 'attempts that failed: retried plus dead_lettered';
comment on column marts.queue_analytics.retried is 'failed attempts after which the job was to be tried again';
comment on column marts.queue_analytics.dead_lettered is 'failed attempts that were the last of their job';
comment on column marts.queue_analytics.ended_after_retry is 'jobs that ended, well or as dead letters, with more than one attempt';
comment on column marts.queue_analytics.waits is 'attempts whose wait is known: lines of earlier versions do not tell it';
comment on column marts.queue_analytics.wait_ms is 'from when the attempt was due to its start, summed';
comment on column marts.queue_analytics.duration_ms is 'from the start of the attempt to its end, summed';
comment on column marts.queue_analytics.failed_duration_ms is 'that of failed attempts';
comment on column marts.queue_analytics.wait_classes is 'attempts by class of wait, shortest first; the bounds are those of the macro queue_bounds';
comment on column marts.queue_analytics.duration_classes is 'attempts by class of duration, the same classes';
comment on column marts.queue_analytics.created is 'row creation time, UTC';
comment on column marts.queue_analytics.updated is 'last change, UTC; maintained by a before-update trigger';
create index queue_analytics_queue_name_event_hour_idx on marts.queue_analytics (queue_name, event_hour);
create index queue_analytics_tenant_id_event_hour_idx on marts.queue_analytics (tenant_id, event_hour) where tenant_id is not null;
create index queue_analytics_event_hour_idx on marts.queue_analytics using brin (event_hour);
select penguin.create_range_partitions('marts.queue_analytics', 'monthly', (current_date - interval '24 months')::date, (current_date + interval '3 months')::date);
select penguin.protect('marts.queue_analytics', 'tenant_or_staff');
