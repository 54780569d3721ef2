-- name: bookmark
-- How far a table has been read; locked so that two loads of one table take turns.
select horizon::text, system_identifier, timeline, row_count, database_oid
from ops.bookmarks
where source = %(source)s and table_name = %(table)s
for update

-- name: bookmarks
-- Every bookmark of a source.
select table_name, horizon::text, system_identifier, timeline, row_count, database_oid, source_read
from ops.bookmarks
where source = %(source)s

-- name: take_turn
-- One load of a table at a time, also when it has no bookmark yet.
select pg_advisory_xact_lock(hashtextextended('ingest ' || %(table)s, 0))

-- name: set_bookmark
-- Advances a bookmark in the commit of the rows.
insert into ops.bookmarks (source, table_name, horizon, system_identifier, timeline, database_oid, columns, row_count, source_read)
values (%(source)s, %(table)s, %(horizon)s::xid8, %(system_identifier)s, %(timeline)s, %(database_oid)s, %(columns)s, %(row_count)s, %(source_read)s)
on conflict (source, table_name) do update set
  horizon = excluded.horizon, system_identifier = excluded.system_identifier, timeline = excluded.timeline,
  database_oid = excluded.database_oid, columns = excluded.columns, row_count = excluded.row_count, source_read = excluded.source_read, updated = now()

-- name: recount
-- Live rows as they are; the bookmark itself stays.
update ops.bookmarks set row_count = (select count(*) from {table} where _deleted is null)
where source = {source} and table_name = {short}
returning row_count

-- name: name_database
-- Gives a bookmark of an older release the database that it was read from.
update ops.bookmarks set database_oid = %(database_oid)s
where source = %(source)s and table_name = %(table)s and database_oid is null

-- name: raw_columns
-- Columns that a raw table has.
select a.attname, format_type(a.atttypid, a.atttypmod)
from pg_attribute as a
where a.attrelid = to_regclass(%(table)s) and a.attnum > 0 and not a.attisdropped

-- name: create_raw
-- A raw table. Row level security is on with no policy: only the roles that bypass it read raw.
create table {table} ({columns}, _change_xid xid8 not null, _loaded timestamptz not null default now(), _deleted timestamptz)

-- name: primary_key
-- Key of a raw table, built once the rows are there.
alter table {table} add constraint {constraint} primary key ({key})

-- name: index
-- An index that the stanza asks for.
create index {index} on {table} ({columns})

-- name: indexed
-- Columns of the indexes that a raw table has.
select (
  select array_agg(a.attname::text order by k.position)
  from unnest(i.indkey::int2[]) with ordinality as k (number, position)
  join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.number
)
from pg_index as i
where i.indrelid = to_regclass(%(table)s) and i.indisvalid and i.indpred is null

-- name: protect_raw
-- Closes a raw table to everyone but the loader and dbt.
alter table {table} enable row level security, force row level security

-- name: grant_raw
-- Lets dbt read a raw table.
grant select on {table} to pm_etl

-- name: incoming
-- Where a window lands before it is merged.
create temporary table incoming ({columns}, _change_xid xid8 not null) on commit drop

-- name: gone
-- Where the keys that left land before they are applied.
create temporary table gone ({columns}, _change_xid xid8 not null, _deleted timestamptz not null) on commit drop

-- name: missing
-- Live raw rows whose key the source does not hold any more; rows beyond the source's own retention are not missed.
insert into gone ({key}, _change_xid, _deleted)
select {raw_key}, {xid}::xid8, now()
from {table} as r
where r._deleted is null and {kept} and {wanted}
  and not exists (select from present as p where {match})

-- name: present
-- Where all keys of the source land when deletes are found by comparison.
create temporary table present ({columns}) on commit drop

-- name: arrived
-- Rows of the window whose key is not live in raw yet.
(select {key} from incoming as i where not exists (select from {table} as r where {match} and r._deleted is null)) as arrived

-- name: replaced
-- How many live raw rows the incoming window will overwrite.
select count(*) from {table} as r join incoming as i on {match}
where r._deleted is null and r._change_xid < i._change_xid

-- name: old_slices
-- Slices that changed and deleted rows leave: a row that moves must not stay behind in the marts.
insert into ops.touched_slices (kind, cause, {slice})
select distinct {kind}, {cause}, {old}
from (
  -- Two joins, not two conditions: joined by OR they would be looked up row by row of the whole table.
  select r.* from incoming as i join {table} as r on {match_incoming} where r._deleted is null and r._change_xid < i._change_xid
  union all
  select r.* from gone as g join {table} as r on {match_gone} where r._deleted is null and r._change_xid <= g._change_xid
) as r {through}

-- name: apply_deletes
-- Marks rows that left. They are kept, and staging hides them.
update {table} as r
set _deleted = g._deleted, _change_xid = g._change_xid, _loaded = now()
from gone as g
where {match} and r._deleted is null and {older}

-- name: older
-- What a window may delete: images of the deleting transaction or before it.
r._change_xid <= g._change_xid

-- name: upsert
-- Merges the rows that arrived, as far as they win against what is there.
with written as (
  insert into {table} as r ({columns}, _change_xid)
  select {columns}, _change_xid from incoming
  on conflict ({key}) do update set {assignments}, _change_xid = excluded._change_xid, _loaded = now(), _deleted = null
  where {wins}
  returning r.*
), noted as (
  {note}
)
select (select count(*) from written), (select count(*) from noted)

-- name: newer
-- An older image never wins against a newer one; an equal one revives a row that was held for deleted.
r._change_xid < excluded._change_xid or (r._change_xid = excluded._change_xid and r._deleted is not null)

-- name: different
-- A full read wins wherever it differs. Compared as stored bytes: every type has those, not every type has equality.
r._deleted is not null or row({mine}, r._change_xid)::record *<> row({theirs}, excluded._change_xid)::record

-- name: new_slices
-- Slices that the written rows belong to now.
insert into ops.touched_slices (kind, cause, {slice})
select distinct {kind}, {cause}, {new}
from written as r {through}
returning 1

-- name: no_slices
-- Nothing depends on this table.
select 1 where false

-- name: everything
-- After a baseline everything that reads the table is to be built.
insert into ops.touched_slices (kind, cause) values ('all', {cause})

-- name: count_live
-- Live rows of a raw table.
select count(*) from {table} where _deleted is null
