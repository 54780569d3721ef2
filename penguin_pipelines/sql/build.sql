-- What a build does around dbt: the lock, what time touches, claiming and consuming slices.

-- name: try_lock
-- One build at a time per warehouse; the lock lives as long as its session.
select pg_try_advisory_lock(%(lock)s);

-- name: end_orphans
-- Sessions of a dbt whose build died; whoever holds the lock knows that none of them is wanted.
select pg_terminate_backend(pid)
from pg_stat_activity
where datname = current_database() and usename = session_user and application_name = %(application)s;

-- name: count_orphans
-- Those of them that are still there.
select count(*)
from pg_stat_activity
where datname = current_database() and usename = session_user and application_name = %(application)s;

-- name: drop_leftovers
-- What a dbt that died may have left beside the relations that it was about to swap. Nothing stands on those.
do $$
declare
  leftover record;
begin
  for leftover in
    select format('%I.%I', n.nspname, c.relname) as name,
      case c.relkind when 'v' then 'view' when 'm' then 'materialized view' else 'table' end as kind
    from pg_class as c
    inner join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname in ('staging', 'intermediate', 'marts', 'tenant') and c.relkind in ('r', 'v', 'm')
      and c.relname ~ '__dbt_(tmp|backup)[0-9]*$' and pg_has_role(c.relowner, 'usage')
  loop
    execute format('drop %s %s', leftover.kind, leftover.name);
  end loop;
end
$$;

-- name: discard_temporary
-- The temporary table of a model that is built; its session goes on to the next.
discard temp;

-- name: is_built
-- Whether any build has finished its message table.
select to_regclass('intermediate.int_messages') is not null;

-- name: touch_all
-- A rebuild is a slice like any other: it stays until a build has covered it.
insert into ops.touched_slices (kind, cause) values ('all', 'full refresh');

-- name: touch_all_for_rules
-- Other rules decide otherwise about every row, also of long ago. Once, however often a build of it fails.
insert into ops.touched_slices (kind, cause)
select 'all', 'rules'
where not exists (select from ops.touched_slices where kind = 'all');

-- name: touch_silent_messages
-- Messages without any sign for so long that no bounce will come: they count as delivered from now on.
insert into ops.touched_slices
  (kind, cause, tenant_id, storage_key, activity_date, campaign_id, step_id, mailbox_id, lead_id)
select 'message', 'time.silence', m.tenant_id, m.storage_key, m.activity_date, m.campaign_id, m.step_id, m.mailbox_id, m.lead_id
from intermediate.int_messages as m
where m.delivered = 0 and m.bounced = 0 and m.failed_time is null
  and m.sent_time <= %(as_of)s - make_interval(hours => %(silence_hours)s)
  and not exists (
    select from ops.touched_slices as s
    where s.kind = 'message' and s.cause = 'time.silence' and s.tenant_id = m.tenant_id and s.storage_key = m.storage_key);

-- name: touch_final_days
-- Days that no late event is expected for any more: their rows become final.
insert into ops.touched_slices (kind, cause, tenant_id, activity_date)
select 'entity', 'time.final', d.tenant_id, d.activity_date
from (
  select tenant_id, activity_date from marts.sequence_step_analytics where not is_final and activity_date <= %(final_day)s
  union
  select tenant_id, activity_date from marts.campaign_analytics where not is_final and activity_date <= %(final_day)s
  union
  select tenant_id, activity_date from marts.mailbox_analytics where not is_final and activity_date <= %(final_day)s
  union
  select tenant_id, activity_date from marts.warmup_analytics where not is_final and activity_date <= %(final_day)s
  union
  -- Days of an address are closed for all its tenants together: their shares are of one price.
  select null::uuid as tenant_id, activity_date from marts.infrastructure_analytics where not is_final and activity_date <= %(final_day)s
  union
  -- The last day of a month closes its rollups, whether or not there was mail on it.
  select m.tenant_id, (m.month + interval '1 month - 1 day')::date
  from (
    select tenant_id, month from marts.campaign_analytics_monthly where not is_final
    union
    select tenant_id, month from marts.sequence_step_analytics_monthly where not is_final
    union
    select tenant_id, month from marts.mailbox_analytics_monthly where not is_final
    union
    select null::uuid, month from marts.infrastructure_analytics_monthly where not is_final
  ) as m
  where (m.month + interval '1 month - 1 day')::date <= %(final_day)s
) as d
where d.activity_date >= %(online_from)s
  and not exists (
    select from ops.touched_slices as s
    where s.kind = 'entity' and s.cause = 'time.final' and s.tenant_id is not distinct from d.tenant_id and s.activity_date = d.activity_date);

-- name: touch_infrastructure_day
-- Addresses that have no row of the day that has begun, each with its last day that has one.
insert into ops.touched_slices (kind, cause, entity_id, activity_date)
select 'entity', 'time.infrastructure_day', d.id, d.day
from (
  select
    a.id,
    (select max(f.activity_date) from marts.infrastructure_analytics as f
     where f.smtp_ip_address_id = a.id and f.activity_date <= %(today)s) as day
  from raw_oltp.smtp_ip_addresses as a
  where a._deleted is null and a.created < %(as_of)s
) as d
where d.day is distinct from %(today)s
  and not exists (
    select from ops.touched_slices as s
    where s.kind = 'entity' and s.cause = 'time.infrastructure_day' and s.entity_id = d.id);

-- name: touch_days
-- Messages of the last days, so that they are computed again although nothing changed.
insert into ops.touched_slices
  (kind, cause, tenant_id, storage_key, activity_date, campaign_id, step_id, mailbox_id, lead_id)
select 'message', 'time.recompute', tenant_id, storage_key, activity_date, campaign_id, step_id, mailbox_id, lead_id
from intermediate.int_messages
where activity_date > %(from_day)s;

-- name: touch_windows
-- Tenants with a usage window to close, or whose contract has entered a month without one.
insert into ops.touched_slices (kind, cause, tenant_id)
select 'entity', 'time.window', d.tenant_id
from (
  select tenant_id from marts.billing_analytics
  where not is_final and period_end <= %(as_of)s - make_interval(days => %(window_close_days)s)
  union
  select s.tenant_id from raw_oltp.subscriptions as s
  where s._deleted is null and s.status <> 'canceled'
    and not exists (
      select from marts.billing_analytics as w where w.tenant_id = s.tenant_id and w.period_end > %(as_of)s)
) as d
where not exists (
  select from ops.touched_slices as s where s.kind = 'entity' and s.cause = 'time.window' and s.tenant_id = d.tenant_id);

-- name: has_calendar
-- Whether the days that views count by exist; a warehouse of an earlier version gets them with its next build.
select to_regclass('intermediate.int_calendar_days') is not null;

-- name: touch_new_day
-- A day has begun that the views over days do not have yet: once a day they grow although nothing changed.
insert into ops.touched_slices (kind, cause)
select 'entity', 'time.day'
where (select max(day) from intermediate.int_calendar_days) < %(day)s
  and not exists (select from ops.touched_slices where kind = 'entity' and cause = 'time.day');

-- name: claim
-- Takes everything that waits, also what a build that died had taken.
update ops.touched_slices set build_id = %(build)s where build_id is distinct from %(build)s;

-- name: consume
-- Exactly what was claimed; slices that came meanwhile wait for the next build.
delete from ops.touched_slices where build_id = %(build)s;

-- name: forget_touched
-- What a build that ended well had to recompute; what one that died had stays there for the next.
do $$
declare
  name text;
begin
  foreach name in array array['intermediate.int_touched_messages', 'intermediate.int_touched_hours'] loop
    if to_regclass(name) is not null then
      execute 'truncate ' || name;
    end if;
  end loop;
end
$$;

-- name: make_state
-- Which version of the project was built last, by which rules and clock, and each of its models; dbt's own role owns it.
create table if not exists intermediate.built_project (fingerprint text not null, rules text, as_of timestamptz, built timestamptz not null);
alter table intermediate.built_project add column if not exists rules text, add column if not exists as_of timestamptz;
create table if not exists intermediate.built_models (name text primary key, fingerprint text not null);

-- name: has_state
-- Whether that is known at all.
select to_regclass('intermediate.built_project') is not null and to_regclass('intermediate.built_models') is not null;

-- name: built_rules
-- The rules that were built last; null when a state of before they were remembered.
select to_jsonb(p) ->> 'rules' from intermediate.built_project as p order by p.built desc limit 1;

-- name: built_fingerprint
-- The version that was built last.
select fingerprint from intermediate.built_project order by built desc limit 1;

-- name: missing_views
-- Whether one of the views is not there.
select exists (select from unnest(%(views)s::text[]) as v (name) where to_regclass(v.name) is null);

-- name: forget_state
-- One row is enough.
delete from intermediate.built_project;

-- name: remember_state
-- The version that was just built.
insert into intermediate.built_project (fingerprint, rules, built) values (%(fingerprint)s, %(rules)s, now());

-- name: remember_clock
-- The clock of the last whole build: what the figures would be now, had time stood still since.
update intermediate.built_project set as_of = %(as_of)s;

-- name: built_clock
-- That clock; null when no build of this version has told.
select max(as_of) from intermediate.built_project;

-- name: forget_models
-- They are written anew together.
delete from intermediate.built_models;

-- name: remember_models
-- What decides the figures of each model that was built.
insert into intermediate.built_models (name, fingerprint) select key, value from jsonb_each_text(%(models)s);

-- name: built_models
-- The same, to compare with the project as it is now.
select name, fingerprint from intermediate.built_models;

-- name: count_models
-- Whether they are known.
select count(*) from intermediate.built_models;

-- name: count_waiting
-- Changes of the sources that are not built yet.
select count(*) from ops.touched_slices;

-- name: scratch_schemas
-- Schemas of dry runs; whoever holds the build lock knows that those of others are left over.
select nspname from pg_namespace where nspname ~ '^diff_[0-9a-f]{6}_';

-- name: drop_scratch
-- A schema of a dry run with all that is in it; nothing real stands on it.
drop schema if exists {schema} cascade;

-- name: make_scratch
-- A schema of a dry run.
create schema if not exists {schema};

-- name: copy_table
-- A table as it is, with its keys and without its partitions, so that a dry run goes on where the last build ended.
create table {copy} (like {table} including all);

-- name: copy_rows
-- Its rows.
insert into {copy} ({columns}) overriding system value select {columns} from {table};

-- name: columns
-- Columns of a relation, whether they can be written and summed, and whether they are made by the table itself.
select a.attname, a.attgenerated = '', t.typcategory = 'N', a.attidentity <> ''
from pg_attribute as a
join pg_type as t on t.oid = a.atttypid
where a.attrelid = to_regclass(%(relation)s) and a.attnum > 0 and not a.attisdropped
order by a.attnum;

-- name: compare
-- Two versions of a relation side by side, key by key, in one pass.
select
  count(*) filter (where o._there), count(*) filter (where n._there),
  count(*) filter (where o._there is null), count(*) filter (where n._there is null),
  count(*) filter (where o._there and n._there and ({changed})){figures}
from (select true as _there, t.* from {old} as t) as o
full join (select true as _there, t.* from {new} as t) as n on {same};

-- name: compare_column
-- What the comparison says of one column: rows that differ, sum before, sum after.
,
  count(*) filter (where o._there and n._there and o.{column} is distinct from n.{column}), {before}, {after}

-- name: compare_rows
-- The same for a relation without a key: rows that are in one of them alone.
select
  (select count(*) from {old}), (select count(*) from {new}),
  (select count(*) from (select {columns} from {new} except all select {columns} from {old}) as added),
  (select count(*) from (select {columns} from {old} except all select {columns} from {new}) as removed);

-- name: movers
-- The rows in which a column differs most.
select {keys}, o.{column}, n.{column}
from (select true as _there, t.* from {old} as t) as o
full join (select true as _there, t.* from {new} as t) as n on {same}
where o.{column} is distinct from n.{column}
order by {distance} desc nulls last, {keys}
limit %(limit)s;
