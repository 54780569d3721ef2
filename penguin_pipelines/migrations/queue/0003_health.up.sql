-- Samples of queue health and openings of alerts.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create table queue_health (
  id bigint generated always as identity,
  queue_name varchar(100) not null,
  sampled timestamptz not null default now(),
  pending_jobs integer not null default 0,
  redis_depth integer not null default 0,
  processing_jobs integer not null default 0,
  failed_jobs_24h integer not null default 0,
  dead_letter_open integer not null default 0,
  oldest_pending_seconds integer not null default 0,
  health_status varchar(20) not null default 'healthy',
  alerts_generated integer not null default 0,
  metadata jsonb,
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id, sampled),
  constraint queue_health_health_status_allowed check (health_status in ('healthy', 'degraded', 'critical'))
) partition by range (sampled);
comment on table queue_health is 'One-minute sample of a queue.';
comment on column queue_health.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index queue_health_queue_name_sampled_desc_idx on queue_health (queue_name, sampled desc);
select penguin.create_range_partitions('queue_health', 'monthly', (current_date - interval '6 months')::date, (current_date + interval '3 months')::date);
select penguin.protect('queue_health', 'staff_only');
select penguin.track('queue_health');

create table queue_alerts (
  id uuid not null default gen_random_uuid(),
  queue_name varchar(100) not null,
  rule varchar(50) not null,
  level varchar(20) not null,
  observed numeric,
  threshold numeric,
  message text not null,
  opened timestamptz not null default now(),
  last_notified timestamptz,
  closed timestamptz,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  constraint queue_alerts_level_allowed check (level in ('notice', 'warning', 'high', 'critical', 'page')),
  foreign key (queue_name) references job_queues (name) on delete cascade
);
comment on table queue_alerts is 'One opening of an alert of a queue: the rule, its level, when it opened, was last notified and closed. Rules are configuration.';
comment on column queue_alerts.rule is 'name of the rule in the configuration';
comment on column queue_alerts.observed is 'the measured figure when the alert opened';
comment on column queue_alerts.created is 'row creation time, UTC';
comment on column queue_alerts.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column queue_alerts.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create unique index queue_alerts_queue_name_rule_level_key on queue_alerts (queue_name, rule, level) where closed is null;
create index queue_alerts_opened_desc_idx on queue_alerts (opened desc);
select penguin.protect('queue_alerts', 'staff_only');
select penguin.track('queue_alerts');
