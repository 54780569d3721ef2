-- Schemas of the warehouse, and what ingestion and builds remember: bookmarks and touched slices.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create schema raw_oltp;
create schema raw_content;
create schema raw_queue;
create schema staging;
create schema intermediate;
create schema marts;
create schema tenant;
create schema archive;
create schema ops;
comment on schema raw_oltp is 'Copies of the OLTP tables, classified column by column; written by ingestion only.';
comment on schema raw_content is 'Copies of the Content tables without bodies, bytes and headers; written by ingestion only.';
comment on schema raw_queue is 'Copies of the Queue tables; written by ingestion only.';
comment on schema staging is 'dbt views that rename and hide deleted rows.';
comment on schema intermediate is 'dbt tables at message grain and usage windows.';
comment on schema marts is 'Facts, dimensions and views for analysts.';
comment on schema tenant is 'Secure views, each showing the rows of one tenant; all that pm_tenant sees.';
comment on schema archive is 'Partitions taken out of the marts.';
comment on schema ops is 'Bookmarks, touched slices and results of checks.';
grant usage, create on schema raw_oltp, raw_content, raw_queue to pm_loader;
grant usage on schema raw_oltp, raw_content, raw_queue, archive to pm_etl;
grant usage, create on schema staging, intermediate, marts, tenant to pm_etl;
grant usage on schema marts to pm_loader, pm_analyst, pm_staff, pm_app, pm_worker;
grant usage on schema tenant to pm_tenant, pm_app;
grant usage on schema ops to pm_loader, pm_etl, pm_staff;

create table ops.bookmarks (
  source text not null,
  table_name text not null,
  horizon xid8 not null,
  system_identifier bigint not null,
  timeline integer not null,
  columns jsonb not null,
  row_count bigint not null default 0,
  source_read timestamptz not null,
  updated timestamptz not null default now(),
  primary key (source, table_name)
);
comment on table ops.bookmarks is 'How far each source table has been read: every change of a transaction below the horizon is in the raw table.';
comment on column ops.bookmarks.horizon is 'pg_snapshot_xmin of the snapshot that was read; the lower bound of the next window';
comment on column ops.bookmarks.system_identifier is 'cluster that was read; another one means that the horizon has no meaning there';
comment on column ops.bookmarks.timeline is 'timeline of that cluster; a new one means a failover or a restore';
comment on column ops.bookmarks.columns is 'name and type of each column as it was read';
comment on column ops.bookmarks.row_count is 'live rows in the raw table';
comment on column ops.bookmarks.source_read is 'time of the snapshot; the figures hold as of this moment';

create table ops.touched_slices (
  seq bigint generated always as identity primary key,
  kind text not null,
  cause text not null,
  tenant_id uuid,
  storage_key varchar(500),
  entity_id uuid,
  build_id uuid,
  activity_date date,
  campaign_id uuid,
  step_id uuid,
  mailbox_id uuid,
  lead_id uuid,
  touched timestamptz not null default now(),
  constraint touched_slices_kind_allowed check (kind in ('all', 'message', 'entity'))
);
comment on table ops.touched_slices is 'What changed and has not been built yet. Written in the commit of the change, deleted by the build that covers it.';
comment on column ops.touched_slices.kind is 'all: everything; message: one message, with the keys it had before or has now; entity: a row of another table';
comment on column ops.touched_slices.cause is 'source.table that changed, or the rule by which time itself touched the slice';
comment on column ops.touched_slices.entity_id is 'key of the changed row for kind entity; null means every row of that table';
comment on column ops.touched_slices.build_id is 'build that is working on it; a build that died leaves its mark and the next one takes over';
create index touched_slices_build_idx on ops.touched_slices (kind, cause);

grant select, insert, update, delete on ops.bookmarks, ops.touched_slices to pm_loader, pm_etl;
grant select on ops.bookmarks, ops.touched_slices to pm_staff;
