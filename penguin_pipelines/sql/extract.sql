-- name: begin_window
-- Horizon and identity of a source in this transaction's snapshot. The horizon is below every transaction that may still write.
select
  pg_snapshot_xmin(pg_current_snapshot())::text as horizon,
  pg_snapshot_xmax(pg_current_snapshot())::text as ceiling,
  (select system_identifier from pg_control_system()) as system_identifier,
  (select timeline_id from pg_control_checkpoint()) as timeline,
  now() as source_read

-- name: held_back_by
-- The oldest transaction that still may write, when it is what keeps the horizon low.
select pid, seconds, what
from (
  select a.pid, extract(epoch from now() - a.xact_start)::bigint as seconds, coalesce(a.application_name, '') as what, a.backend_xid as xid
  from pg_stat_activity as a
  where a.backend_xid is not null and a.pid <> pg_backend_pid()
  union all
  select null, extract(epoch from now() - p.prepared)::bigint, 'prepared ' || p.gid, p.transaction
  from pg_prepared_xacts as p
) as writers
order by age(xid) desc
limit 1

-- name: source_columns
-- Columns and types of every table of the source.
select c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
from pg_class as c
join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition

-- name: has_changes
-- Whether a window holds any row; with the index on change_xid this costs the same however large the table is.
select exists (select from {table} where {window})

-- name: rows
-- Rows of a window as the raw table wants them.
copy (select {columns} from {table} where {window}) to stdout (format binary)

-- name: has_tombstones
-- Whether rows left the table within the window.
select exists (
  select from penguin.tombstones
  where table_name = %(table)s and change_xid >= %(low)s::xid8 and change_xid < %(high)s::xid8
)

-- name: tombstones
-- Keys that left the table within the window, one line each, the last departure of each key.
copy (
  select {keys}, max(change_xid::text::numeric)::text::xid8, max(deleted)
  from penguin.tombstones
  where table_name = {table} and change_xid >= {low}::xid8 and change_xid < {high}::xid8 and not is_truncate
  group by key
) to stdout (format binary)

-- name: truncated
-- The last TRUNCATE of the table within the window, if there was one.
select max(change_xid::text::numeric)::text
from penguin.tombstones
where table_name = %(table)s and change_xid >= %(low)s::xid8 and change_xid < %(high)s::xid8 and is_truncate

-- name: bucket_digests
-- Number of rows and sum of hashes by bucket of the key: equal on both sides means equal keys.
select ({bucket})::integer, count(*), sum({hash}) from {table} where {live} group by 1

-- name: keys
-- Keys of the table in some buckets, or all of them.
copy (select {keys} from {table} where {wanted}) to stdout (format binary)
