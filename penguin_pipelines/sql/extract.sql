-- name: begin_window
-- Horizon and identity of a source in this transaction's snapshot. The horizon is below every transaction that may still write.
select
  pg_snapshot_xmin(pg_current_snapshot())::text as horizon,
  pg_snapshot_xmax(pg_current_snapshot())::text as ceiling,
  (select system_identifier from pg_control_system()) as system_identifier,
  (select timeline_id from pg_control_checkpoint()) as timeline,
  now() as source_read,
  (select oid::bigint from pg_database where datname = current_database()) as database_oid

-- name: marked_tables
-- Tables whose changes and deletes our triggers tell of, in a source that may lack our schema.
select c.relname::text
from pg_class as c
join pg_attribute as a on a.attrelid = c.oid and a.attname = 'change_xid' and a.atttypid = 'xid8'::regtype and not a.attisdropped
where c.relnamespace = 'public'::regnamespace and (
  select count(distinct p.proname) from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid
  where t.tgrelid = c.oid and t.tgenabled in ('O', 'A') and p.proname in ('mark_changed', 'leave_tombstone')
    and p.pronamespace = to_regnamespace('penguin')
) = 2
and has_schema_privilege(to_regnamespace('penguin')::oid, 'usage') and has_table_privilege(to_regclass('penguin.tombstones')::oid, 'select')

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
-- Keys that left the table within the window and did not come back, one line each, the last departure of each key.
-- A key that is there again may have been inserted by an older transaction than the one that deleted it: its row came
-- with an earlier window and does not come once more.
copy (
  select {names}, xid::text::xid8, deleted
  from (
    select {keys}, max(change_xid::text::numeric) as xid, max(deleted) as deleted
    from penguin.tombstones
    where table_name = {of} and change_xid >= {low}::xid8 and change_xid < {high}::xid8 and not is_truncate
    group by key
  ) as g
  where not exists (select from {table} as t where {match})
) to stdout (format binary)

-- name: truncated
-- The last TRUNCATE of the table within the window, if there was one.
select max(change_xid::text::numeric)::text
from penguin.tombstones
where table_name = %(table)s and change_xid >= %(low)s::xid8 and change_xid < %(high)s::xid8 and is_truncate

-- name: split
-- First transaction of a window, and the one that its rows from a given number on belong to.
select
  (select change_xid::text from {table} where {window} order by change_xid limit 1),
  (select change_xid::text from {table} where {window} order by change_xid offset {rows} limit 1)

-- name: next_xid
-- The next transaction of a window after a given one.
select change_xid::text from {table} where {window} and change_xid > {xid}::xid8 order by change_xid limit 1

-- name: bucket_digests
-- Number of rows and sum of hashes by bucket of the key: equal on both sides means equal keys.
select ({bucket})::integer, count(*), sum({hash}) from {table} where {live} group by 1

-- name: rewritten
-- Whether a locked table has other files than in the snapshot, which then sees none of its rows.
select exists (
  select from pg_class as c
  where c.oid in (select %(table)s::regclass union all select relid from pg_partition_tree(%(table)s::regclass))
    and c.relfilenode <> 0 and c.relfilenode is distinct from pg_relation_filenode(c.oid)
)

-- name: hold
-- Keeps a table from being rewritten or emptied until the snapshot ends.
lock table {table} in access share mode

-- name: keys
-- Keys of the table in some buckets, or all of them.
copy (select {keys} from {table} where {wanted}) to stdout (format binary)
