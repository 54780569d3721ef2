-- name: extend_partitions
-- Makes the partitions ahead for every table with a rule; returns how many were made.
select penguin.extend_partitions()

-- name: needed_from
-- From which transaction on each table of a source still has tombstones to be read, and the clusters this speaks of.
select array_agg(table_name), array_agg(horizon::text), array_agg(distinct system_identifier)
from (
  select table_name, horizon, system_identifier from ops.bookmarks where source = %(source)s
  union all
  select table_name, horizon, system_identifier from ops.baselines where source = %(source)s
) as needed

-- name: prune_tombstones
-- Deletes tombstones that the loads of their table have passed; a table that is not read needs none.
delete from penguin.tombstones as t
where t.deleted < now() - %(kept)s::interval
  and not exists (
    select from unnest(%(tables)s::text[], %(horizons)s::xid8[]) as n (table_name, horizon)
    where n.table_name = t.table_name and t.change_xid >= n.horizon
  )
  and array[(select system_identifier from pg_control_system())] = %(systems)s::bigint[]
