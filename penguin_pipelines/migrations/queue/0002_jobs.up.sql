-- Queues, jobs, their attempts and dead letters.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create table job_queues (
  name varchar(100) not null,
  default_priority integer not null default 100,
  max_concurrent_jobs integer not null default 10,
  timeout_seconds integer not null default 3600,
  retry_attempts integer not null default 3,
  backoff_base_seconds integer not null default 60,
  backoff_multiplier integer not null default 2,
  backoff_cap_seconds integer not null default 3600,
  is_active boolean not null default true,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (name)
);
comment on table job_queues is 'Named queue with its defaults.';
comment on column job_queues.default_priority is 'lower runs sooner';
comment on column job_queues.is_active is 'false pauses the queue';
comment on column job_queues.created is 'row creation time, UTC';
comment on column job_queues.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column job_queues.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
select penguin.protect('job_queues', 'public_read_staff_write');
select penguin.track('job_queues');

create table jobs (
  id uuid not null default gen_random_uuid(),
  queue_name varchar(100) not null,
  job_type varchar(100) not null,
  status varchar(50) not null default 'queued',
  priority integer not null default 100,
  payload jsonb not null,
  result jsonb,
  attempt_count integer not null default 0,
  max_attempts integer not null default 3,
  run timestamptz not null default now(),
  queued timestamptz not null default now(),
  started timestamptz,
  completed timestamptz,
  failed timestamptz,
  processed timestamptz,
  expires timestamptz,
  heartbeat timestamptz,
  worker_id varchar(100),
  lease_token uuid,
  last_error_message text,
  error_details jsonb,
  progress_percentage integer not null default 0,
  progress_message text,
  tenant_id uuid,
  user_id uuid,
  correlation_id varchar(255),
  idempotency_key varchar(255),
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  constraint jobs_status_allowed check (status in ('queued', 'migrated_to_redis', 'processing', 'completed', 'failed', 'cancelled', 'expired')),
  constraint jobs_rule_1 check (attempt_count <= max_attempts),
  constraint jobs_rule_2 check (progress_percentage between 0 and 100),
  constraint jobs_rule_3 check (priority between 1 and 1000),
  foreign key (queue_name) references job_queues (name) on delete restrict
);
comment on table jobs is 'Unit of background work and its state; PostgreSQL is the truth, Redis the fast lane.';
comment on column jobs.status is 'running in older text means processing';
comment on column jobs.priority is '1 to 25 critical, 26 to 50 high, 51 to 150 normal, 151 to 200 low, above bulk';
comment on column jobs.payload is 'references only, never message text or secrets';
comment on column jobs.run is 'earliest start; a retry moves it forward';
comment on column jobs.queued is 'time stamp named by the design';
comment on column jobs.processed is 'pushed to Redis';
comment on column jobs.heartbeat is 'last sign of life of the worker';
comment on column jobs.lease_token is 'fencing token of the current lease; a completion with another token is refused';
comment on column jobs.tenant_id is 'null for platform jobs';
comment on column jobs.correlation_id is 'follows one flow through all tiers';
comment on column jobs.idempotency_key is 'stops double enqueue';
comment on column jobs.created is 'row creation time, UTC';
comment on column jobs.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column jobs.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create unique index jobs_queue_name_idempotency_key_key on jobs (queue_name, idempotency_key) where idempotency_key is not null and status in ('queued','migrated_to_redis','processing');
create index jobs_run_priority_created_idx on jobs (run, priority, created) where status = 'queued';
create index jobs_queue_name_run_priority_created_idx on jobs (queue_name, run, priority, created) where status = 'queued';
create index jobs_heartbeat_idx on jobs (heartbeat) where status in ('migrated_to_redis','processing');
create index jobs_tenant_id_created_desc_idx on jobs (tenant_id, created desc);
create index jobs_correlation_id_idx on jobs (correlation_id) where correlation_id is not null;
create index jobs_completed_idx on jobs (completed) where status = 'completed';
create index jobs_failed_idx on jobs (failed) where status = 'failed';
create index jobs_expires_idx on jobs (expires) where expires is not null and status = 'queued';
select penguin.protect('jobs', 'tenant_isolation');
select penguin.track('jobs', indexed => false);

create table job_logs (
  id bigint generated always as identity,
  job_id uuid not null,
  tenant_id uuid,
  log_level varchar(20) not null default 'info',
  status varchar(20),
  message text not null,
  context jsonb,
  attempt_number integer not null,
  worker_id varchar(100),
  duration_ms integer,
  memory_usage_mb integer,
  started timestamptz not null default now(),
  finished timestamptz,
  created timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id, created),
  constraint job_logs_log_level_allowed check (log_level in ('debug', 'info', 'warning', 'error', 'fatal')),
  constraint job_logs_status_allowed check (status in ('attempting', 'success', 'retry', 'failed'))
) partition by range (created);
comment on table job_logs is 'One line per attempt or log event of a job.';
comment on column job_logs.job_id is 'logical so logs can be partitioned and outlive purged jobs';
comment on column job_logs.context is 'no message text, no addresses';
comment on column job_logs.created is 'row creation time, UTC';
comment on column job_logs.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index job_logs_job_id_created_idx on job_logs (job_id, created);
create index job_logs_created_idx on job_logs (created) where log_level in ('error','fatal');
create index job_logs_created_idx_live on job_logs using brin (created);
select penguin.create_range_partitions('job_logs', 'daily', current_date - 31, current_date + 7);
select penguin.protect('job_logs', 'tenant_isolation');
select penguin.track('job_logs');

create table dead_letter_jobs (
  id uuid not null default gen_random_uuid(),
  original_job_id uuid not null,
  tenant_id uuid,
  queue_name varchar(100) not null,
  job_type varchar(100) not null,
  final_attempt integer not null,
  failure_reason text not null,
  error_details jsonb,
  payload jsonb not null,
  failure_timestamp timestamptz not null default now(),
  last_retry timestamptz,
  retry_count integer not null default 0,
  is_resolved boolean not null default false,
  resolved timestamptz,
  resolved_by uuid,
  resolution_notes text,
  replay_job_id uuid,
  created timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (original_job_id)
);
comment on table dead_letter_jobs is 'Job that used up its attempts, kept for inspection and replay.';
comment on column dead_letter_jobs.payload is 'copied so replay survives the purge of the job';
comment on column dead_letter_jobs.created is 'row creation time, UTC';
comment on column dead_letter_jobs.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index dead_letter_jobs_queue_name_failure_timestamp_desc_idx on dead_letter_jobs (queue_name, failure_timestamp desc) where not is_resolved;
create index dead_letter_jobs_tenant_id_created_desc_idx on dead_letter_jobs (tenant_id, created desc);
select penguin.protect('dead_letter_jobs', 'staff_only');
select penguin.track('dead_letter_jobs');

-- Queues of the platform. Staff may write them, so the rows arrive through the same policy as later edits.
set local role pm_staff;
insert into job_queues (name, default_priority, timeout_seconds, retry_attempts, max_concurrent_jobs, backoff_base_seconds, backoff_cap_seconds)
values
  ('email-sending',             100,   30, 3, 10, 60, 3600),
  ('email-processing',           75,   60, 3, 10, 60, 3600),
  ('bounce:process',             75,   60, 5,  5, 60, 3600),
  ('warmup:process',             75,  120, 3,  5, 60, 3600),
  ('webhook:process',           100,   15, 5, 10,  1,  300),
  ('notification-delivery',      50,   30, 3, 10, 60, 3600),
  ('analytics-processing',      150,  300, 3,  3, 60, 3600),
  ('infrastructure-monitoring', 100,  300, 3,  3, 60, 3600),
  ('billing-sync',              100,   60, 5,  2, 60, 3600),
  ('content-archival',          200, 3600, 3,  2, 60, 3600),
  ('import-export',             150, 3600, 3,  3, 60, 3600),
  ('maintenance',               250, 3600, 1,  1, 60, 3600)
on conflict (name) do nothing;
set local role pm_owner;
