-- name: sizes
-- Size of each wanted table with its partitions, zero for what has no blocks of its own.
select c.relname, coalesce((select sum(pg_table_size(p.relid)) from pg_partition_tree(c.oid) as p where p.isleaf), pg_table_size(c.oid), 0)::bigint
from pg_class as c
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and c.relname = any (%(tables)s)

-- name: hold
-- Keeps the files of a table where they are until the transaction ends; what was read before may be compared with them after.
select from {table} limit 0

-- name: files
-- Blocks, bytes, file and estimated rows of a table or of each of its partitions.
select c.oid::bigint, pg_relation_filenode(c.oid)::bigint, pg_relation_size(c.oid) / current_setting('block_size')::integer,
  pg_table_size(c.oid), greatest(c.reltuples, 0)::bigint
from pg_class as c
where c.oid = any (
  select to_regclass(%(table)s)::oid
  union all
  select p.relid from pg_partition_tree(to_regclass(%(table)s)) as p
) and c.relkind = 'r'

-- name: try_turn
-- One first read of a table at a time, held by the session.
select pg_try_advisory_lock(hashtextextended('baseline ' || %(table)s, 0))

-- name: end_turn
-- Lets others read.
select pg_advisory_unlock(hashtextextended('baseline ' || %(table)s, 0))

-- name: known
-- A first read that is under way.
select horizon::text, system_identifier, timeline, database_oid, columns, files, rows_expected, is_ready
from ops.baselines
where source = %(source)s and table_name = %(table)s

-- name: begin
-- Notes the horizon before the first range is read.
insert into ops.baselines (source, table_name, horizon, system_identifier, timeline, database_oid, columns, files, rows_expected, begun)
values (%(source)s, %(table)s, %(horizon)s::xid8, %(system_identifier)s, %(timeline)s, %(database_oid)s, %(columns)s, %(files)s, %(rows_expected)s, %(begun)s)

-- name: add_range
-- A range that is to be read.
insert into ops.baseline_ranges (source, table_name, first_block, end_block) values (%(source)s, %(table)s, %(first)s, %(end)s)

-- name: ranges
-- Ranges in order, with their rows once they are read.
select first_block, end_block, row_count
from ops.baseline_ranges
where source = %(source)s and table_name = %(table)s
order by first_block

-- name: range_done
-- Marks a range in the commit of its rows.
update ops.baseline_ranges set row_count = %(rows)s, done = now()
where source = %(source)s and table_name = %(table)s and first_block = %(first)s

-- name: ready
-- Marks a first read as complete but for what changed meanwhile.
update ops.baselines set is_ready = true, updated = now() where source = %(source)s and table_name = %(table)s

-- name: forget
-- Ends a first read, complete or not; its ranges go with it.
delete from ops.baselines where source = %(source)s and table_name = %(table)s returning horizon::text, system_identifier, timeline

-- name: landing_gone
-- Throws away what an abandoned first read left.
drop table if exists {table}

-- name: appear
-- The landing becomes the raw table.
alter table {landing} rename to {raw}

-- name: rows
-- Rows of a range that were there before the first range was read and have not changed since.
copy (
  select {columns} from {table}
  where ctid >= {first}::tid and ctid < {end}::tid and not ({changed})
) to stdout (format binary)
