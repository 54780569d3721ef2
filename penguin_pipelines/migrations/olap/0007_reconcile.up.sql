-- What reconciliation found, and up to where each raw table is known to equal its source.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create table ops.reconcile_marks (
  source text not null,
  table_name text not null,
  verified_through xid8 not null,
  system_identifier bigint not null,
  timeline integer not null,
  raw_through xid8 not null,
  raw_system_identifier bigint not null,
  raw_timeline integer not null,
  fingerprint text not null,
  verified timestamptz not null default now(),
  primary key (source, table_name)
);
comment on table ops.reconcile_marks is 'Up to where each raw table has been found equal to its source. A later comparison reads row versions that are newer on either side.';
comment on column ops.reconcile_marks.verified_through is 'transactions of the source below this id are verified';
comment on column ops.reconcile_marks.system_identifier is 'cluster of the source; in another one the mark means nothing';
comment on column ops.reconcile_marks.timeline is 'timeline of that cluster';
comment on column ops.reconcile_marks.raw_through is 'the same in transactions of the warehouse';
comment on column ops.reconcile_marks.raw_system_identifier is 'cluster of the warehouse';
comment on column ops.reconcile_marks.raw_timeline is 'timeline of that cluster';
comment on column ops.reconcile_marks.fingerprint is 'columns and key of pseudonyms that were compared; others are compared from the start';
comment on column ops.reconcile_marks.verified is 'when the mark was set';

create table ops.reconcile_results (
  id bigint generated always as identity primary key,
  subject text not null,
  state text not null,
  mode text not null,
  verified_through xid8,
  source_rows bigint,
  raw_rows bigint,
  compared_rows bigint not null default 0,
  buckets integer not null default 0,
  unequal_buckets integer not null default 0,
  missing bigint not null default 0,
  stale bigint not null default 0,
  ghost bigint not null default 0,
  waiting bigint not null default 0,
  mended bigint not null default 0,
  details jsonb not null default '{}',
  seconds numeric not null default 0,
  finished timestamptz not null default now(),
  constraint reconcile_results_state_allowed check (state in ('equal', 'different', 'waiting', 'never_read', 'failed')),
  constraint reconcile_results_mode_allowed check (mode in ('full', 'changes', 'sums'))
);
comment on table ops.reconcile_results is 'One line per comparison of a raw table with its source, or of a mart with raw.';
comment on column ops.reconcile_results.subject is 'source.table, or marts.table';
comment on column ops.reconcile_results.state is 'waiting: what differs is on its way, to be read or built';
comment on column ops.reconcile_results.mode is 'full: every row; changes: row versions newer than the mark; sums: counters by tenant and month';
comment on column ops.reconcile_results.missing is 'rows of the source that raw lacks';
comment on column ops.reconcile_results.stale is 'rows that differ';
comment on column ops.reconcile_results.ghost is 'rows of raw that the source does not hold';
comment on column ops.reconcile_results.waiting is 'rows in flight, left out on both sides';
comment on column ops.reconcile_results.mended is 'rows that --fix wrote or marked deleted';
comment on column ops.reconcile_results.details is 'unequal buckets and months, or the sentence of an error';
create index reconcile_results_subject_finished_idx on ops.reconcile_results (subject, finished desc);

grant select, insert, update, delete on ops.reconcile_marks, ops.reconcile_results to pm_loader, pm_etl;
grant select on ops.reconcile_marks, ops.reconcile_results to pm_staff;
