-- Making a populated table of a source extractable while others write to it. Every statement is short or blocks nobody.

-- name: facts
-- What a table has and lacks.
select
  c.relkind = 'p' as is_partitioned,
  exists (select from pg_index as i where i.indrelid = c.oid and i.indisprimary) as has_key,
  format_type(a.atttypid, a.atttypmod) as type,
  a.attnotnull and pg_get_expr(d.adbin, d.adrelid) = 'pg_current_xact_id()' as is_marked,
  coalesce((select array_agg(t.tgname::text) from pg_trigger as t where t.tgrelid = c.oid and not t.tgisinternal and t.tgenabled in ('O', 'A')), '{}') as triggers,
  pg_has_role(current_user, c.relowner, 'usage') as is_ours,
  c.relowner::regrole::text as owner
from pg_class as c
left join pg_attribute as a on a.attrelid = c.oid and a.attname = 'change_xid' and not a.attisdropped
left join pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
where c.oid = to_regclass(%(table)s) and c.relkind in ('r', 'p')

-- name: has_foundation
-- Whether the functions that tracking needs are there.
select to_regprocedure('penguin.mark_changed()') is not null and to_regclass('penguin.tombstones') is not null

-- name: keys
-- What identifies a row: primary key and tenant.
select penguin.key_columns(%(table)s::regclass)

-- name: leaves
-- The tables that hold rows, by name, and the head of a partitioned table after them.
select c.relname, t.isleaf
from pg_partition_tree(to_regclass(%(table)s)) as t join pg_class as c on c.oid = t.relid
where t.isleaf or t.relid = to_regclass(%(table)s)
union all
select %(name)s, true where not exists (select from pg_partition_tree(to_regclass(%(table)s)))
order by 2 desc, 1

-- name: lock_timeout
-- Who waits for a lock makes everybody behind it wait: give up early and come again.
select set_config('lock_timeout', %(timeout)s, false)

-- name: lock
-- From here on no transaction that has written to the table is open.
lock table {table} in access exclusive mode

-- name: moment
-- Id of this transaction, greater than that of everybody who has written to the table.
select pg_current_xact_id()::text

-- name: mark
-- A constant default fills the rows that are there without touching one; the next line is for those that come.
alter table {table} add column change_xid xid8 not null default {moment};
alter table {table} alter column change_xid set default pg_current_xact_id();
comment on column {table}.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';

-- name: track
-- As penguin.track makes them, but for the column updated: what a table of others shows is not ours to set.
create trigger mark_changed before update on {table} for each row execute function penguin.mark_changed('false');
create trigger leave_tombstone after delete on {table} for each row execute function penguin.leave_tombstone({arguments});
create trigger leave_tombstone_of_old_key after update on {table} for each row when ({re_keyed}) execute function penguin.leave_tombstone({arguments});
create trigger leave_tombstone_of_all after truncate on {table} for each statement execute function penguin.leave_tombstone({short});

-- name: grant
-- Lets the loader read the table, past row level security where there is some.
grant select on {table} to pm_loader

-- name: compare_keys
-- Nobody told of what was deleted before: the mark of a TRUNCATE makes the next read compare all keys.
insert into penguin.tombstones (table_name, is_truncate) values (%(name)s, true)

-- name: has_index
-- Whether one of the indexes is there and valid.
select exists (select from pg_index where indexrelid = any (select to_regclass(n) from unnest(%(indexes)s::text[]) as n) and indisvalid)

-- name: drop_index
-- What a killed build left behind.
drop index concurrently if exists {index}

-- name: create_index
-- Writers go on while it is built.
create index concurrently {short} on {table} (change_xid)

-- name: create_parent_index
-- Takes in the indexes that the partitions have, builds none, and no reader waits. Partitions to come get theirs at birth.
-- Attaching them one by one would lock each against its readers.
create index {short} on {table} (change_xid)

-- name: columns
-- Columns of a table with type, and whether they are part of the key.
select a.attname, format_type(a.atttypid, a.atttypmod),
  exists (select from pg_index as i where i.indrelid = a.attrelid and i.indisprimary and a.attnum = any (i.indkey))
from pg_attribute as a
where a.attrelid = to_regclass(%(table)s) and a.attnum > 0 and not a.attisdropped and a.attname <> 'change_xid'
order by a.attnum
