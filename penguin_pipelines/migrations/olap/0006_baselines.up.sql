-- Progress of first reads of very large tables, which are read in ranges and survive a kill.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create table ops.baselines (
  source text not null,
  table_name text not null,
  horizon xid8 not null,
  system_identifier bigint not null,
  timeline integer not null,
  columns jsonb not null,
  files jsonb not null,
  rows_expected bigint not null,
  is_ready boolean not null default false,
  begun timestamptz not null,
  updated timestamptz not null default now(),
  primary key (source, table_name)
);
comment on table ops.baselines is 'First reads that are under way; the raw table appears, and the row vanishes, with the commit that completes it.';
comment on column ops.baselines.horizon is 'pg_snapshot_xmin before the first range; the first window starts here';
comment on column ops.baselines.columns is 'name and type of each column that is read; other ones start the read anew';
comment on column ops.baselines.files is 'file of the table or of each partition: a rewrite moves rows between ranges and starts the read anew';
comment on column ops.baselines.rows_expected is 'estimate of the planner';
comment on column ops.baselines.is_ready is 'every range is read and the key stands';

create table ops.baseline_ranges (
  source text not null,
  table_name text not null,
  first_block bigint not null,
  end_block bigint not null,
  row_count bigint,
  done timestamptz,
  primary key (source, table_name, first_block),
  constraint baseline_ranges_table_fkey foreign key (source, table_name) references ops.baselines (source, table_name) on delete cascade
);
comment on table ops.baseline_ranges is 'Ranges of blocks of a first read, each read from a short snapshot and committed by itself.';
comment on column ops.baseline_ranges.end_block is 'first block that is not in the range; of partitioned tables the range holds these blocks of every partition';

grant select, insert, update, delete on ops.baselines, ops.baseline_ranges to pm_loader;
grant select on ops.baselines, ops.baseline_ranges to pm_etl, pm_staff;
