-- What every table of a tier is made with: tenant context, row level security, exact change tracking, partitions.
-- When: before the deploy. Locks: none that others wait for; every object is new.

grant usage on schema penguin to pm_loader, pm_etl, pm_app, pm_worker, pm_staff, pm_analyst, pm_tenant;

-- Tier that this database holds; grants and worker policies differ by tier.
create function penguin.tier() returns text language sql immutable parallel safe return '{{tier}}';

-- Tenant of the transaction, from SET LOCAL app.current_tenant_id. Null, never an error, when unset: policies then show nothing.
create function penguin.current_tenant() returns uuid language sql stable parallel safe
return nullif(current_setting('app.current_tenant_id', true), '')::uuid;

-- Person of the transaction, from SET LOCAL app.current_user_id.
create function penguin.current_person() returns uuid language sql stable parallel safe
return nullif(current_setting('app.current_user_id', true), '')::uuid;

-- Rows that left a table, for extraction: no cursor over the table itself can see a hard delete.
create table penguin.tombstones (
  id bigint generated always as identity primary key,
  table_name text not null,
  key jsonb,
  is_truncate boolean not null default false,
  deleted timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  constraint tombstones_key_unless_truncate check (is_truncate or key is not null)
);
comment on table penguin.tombstones is 'Key of each row that was deleted or re-keyed in a tracked table, with the transaction that did it.';
create index tombstones_change_xid_idx on penguin.tombstones (change_xid);
grant select on penguin.tombstones to pm_loader;

-- Refreshes the watermark and the display time of a changed row. UPDATE only: for an insert the column default costs nothing.
create function penguin.mark_changed() returns trigger language plpgsql as $$
begin
  new.change_xid := pg_current_xact_id();
  if tg_argv[0]::boolean then
    new.updated := now();
  end if;
  return new;
end
$$;

-- Leaves the old key of a row behind. Runs as owner: the roles that delete may not write tombstones.
create function penguin.leave_tombstone() returns trigger language plpgsql security definer
set search_path = pg_catalog, penguin as $$
begin
  if tg_op = 'TRUNCATE' then
    insert into penguin.tombstones (table_name, is_truncate) values (tg_argv[0], true);
  else
    insert into penguin.tombstones (table_name, key)
    select tg_argv[0], jsonb_object_agg(k.key, k.value)
    from jsonb_each(to_jsonb(old)) as k
    where k.key = any (tg_argv[1:]);
  end if;
  return null;
end
$$;

-- Name of a relation without the default schema.
create function penguin.short_name(relation regclass) returns text language sql stable
return (select relname from pg_class where oid = relation);

-- Columns that identify a row for the warehouse: primary key and tenant.
create function penguin.key_columns(relation regclass) returns text[] language sql stable
return (
  select array_agg(a.attname::text order by a.attnum)
  from pg_attribute as a
  where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
    and (a.attname = 'tenant_id'
         or a.attnum = any (select unnest(i.indkey) from pg_index as i where i.indrelid = relation and i.indisprimary))
);

-- Makes changes of a table extractable: watermark index, update trigger, tombstones.
create function penguin.track(relation regclass, indexed boolean default true) returns void language plpgsql as $$
declare
  short text := penguin.short_name(relation);
  keys text[] := penguin.key_columns(relation);
  key_args text := (select string_agg(quote_literal(k), ', ') from unnest(keys) as k);
  re_keyed text := (select string_agg(format('old.%1$I is distinct from new.%1$I', k), ' or ') from unnest(keys) as k);
  has_updated boolean := exists (
    select from pg_attribute where attrelid = relation and attname = 'updated' and not attisdropped);
begin
  if indexed then
    execute format('create index %I on %s (change_xid)', short || '_change_xid_idx', relation);
  end if;
  execute format('create trigger mark_changed before update on %s for each row execute function penguin.mark_changed(%L)',
                 relation, has_updated);
  execute format('create trigger leave_tombstone after delete on %s for each row execute function penguin.leave_tombstone(%L, %s)',
                 relation, short, key_args);
  execute format('create trigger leave_tombstone_of_old_key after update on %s for each row when (%s) execute function penguin.leave_tombstone(%L, %s)',
                 relation, re_keyed, short, key_args);
  execute format('create trigger leave_tombstone_of_all after truncate on %s for each statement execute function penguin.leave_tombstone(%L)',
                 relation, short);
end
$$;

-- Which role may do what with a table, by tier. change_xid is written by default and trigger only.
create function penguin.grant_roles(relation regclass, policy text) returns void language plpgsql as $$
declare
  writable text := (
    select string_agg(quote_ident(attname), ', ' order by attnum)
    from pg_attribute
    where attrelid = relation and attnum > 0 and not attisdropped and attname <> 'change_xid' and attidentity = '');
  writer text;
  writers text[] := case
    when penguin.tier() = 'olap' then array['pm_etl']
    when policy in ('staff_only', 'public_read_staff_write', 'tenant_or_global_staff_write') then array['pm_worker', 'pm_staff']
    else array['pm_app', 'pm_worker', 'pm_staff']
  end;
begin
  execute format('grant select on %s to pm_loader, pm_etl, pm_staff', relation);
  if penguin.tier() = 'olap' then
    if policy <> 'staff_read_insert_any' then
      execute format('grant select on %s to pm_analyst', relation);
    end if;
  else
    execute format('grant select on %s to pm_app, pm_worker', relation);
  end if;
  if policy = 'staff_read_insert_any' then
    return;
  end if;
  foreach writer in array writers loop
    execute format('grant insert (%1$s), update (%1$s), delete on %2$s to %3$I', writable, relation, writer);
  end loop;
end
$$;

-- The one way to protect a table: row level security on and forced, policies by declared name, grants.
-- Partitions get the flags and no policy: read directly they show nothing, through the parent its policies hold.
create function penguin.protect(relation regclass, policy text) returns void language plpgsql as $$
declare
  part regclass;
  own text := 'tenant_id = penguin.current_tenant()';
begin
  for part in select relid from pg_partition_tree(relation) union select relation loop
    execute format('alter table %s enable row level security', part);
    execute format('alter table %s force row level security', part);
  end loop;

  case policy
    when 'tenant_isolation' then
      execute format('create policy tenant_isolation on %s using (%2$s) with check (%2$s)', relation, own);
    when 'tenant_self' then
      execute format('create policy tenant_self on %s using (id = penguin.current_tenant()) with check (id = penguin.current_tenant())', relation);
    when 'self_or_tenant_member' then
      execute format($p$create policy self_or_tenant_member on %s using (
        id = penguin.current_person()
        or exists (select from tenant_users as m where m.user_id = id and m.tenant_id = penguin.current_tenant() and m.deleted is null))$p$, relation);
    when 'tenant_and_owner' then
      execute format('create policy tenant_and_owner on %s using (%2$s and (user_id is null or user_id = penguin.current_person())) with check (%2$s)', relation, own);
    when 'tenant_or_global' then
      execute format('create policy tenant_or_global on %s for select using (%s or tenant_id is null)', relation, own);
      execute format('create policy tenant_insert on %s for insert with check (%s)', relation, own);
      execute format('create policy tenant_update on %s for update using (%2$s) with check (%2$s)', relation, own);
      execute format('create policy tenant_delete on %s for delete using (%s)', relation, own);
    when 'tenant_or_global_staff_write' then
      execute format('create policy tenant_or_global on %s for select using (%s or tenant_id is null)', relation, own);
      execute format('create policy worker_write on %s to pm_worker using (true) with check (true)', relation);
    when 'tenant_or_staff' then
      execute format('create policy tenant_or_staff on %s for select using (%s)', relation, own);
    when 'public_read_staff_write' then
      execute format('create policy public_read on %s for select using (true)', relation);
    when 'staff_read_insert_any' then
      execute format('create policy insert_any on %s for insert with check (true)', relation);
    when 'staff_only' then
      null;
    else
      raise exception 'Policy % of table % is not known; add it to penguin.protect.', policy, relation;
  end case;

  if policy = 'staff_read_insert_any' then
    execute format('create policy staff_read on %s for select to pm_staff using (true)', relation);
  else
    execute format('create policy staff_all on %s to pm_staff using (true) with check (true)', relation);
  end if;
  if penguin.tier() = 'queue' then
    execute format('create policy worker_all on %s to pm_worker using (true) with check (true)', relation);
  end if;
  if penguin.tier() = 'olap' and policy <> 'staff_read_insert_any' then
    execute format('create policy analyst_read on %s for select to pm_analyst using (true)', relation);
  end if;
  perform penguin.grant_roles(relation, policy);
end
$$;

-- Which tables are cut by time, so that upkeep needs no second list.
create table penguin.partition_rules (
  table_name text primary key,
  unit text not null,
  constraint partition_rules_unit_allowed check (unit in ('daily', 'monthly', 'yearly'))
);
comment on table penguin.partition_rules is 'Unit of the time partitions of each partitioned table.';
grant select on penguin.partition_rules to pm_loader, pm_etl;

-- True where the partition key is a time stamp, whose bounds must name the zone.
create function penguin.cut_by_time(relation regclass) returns boolean language sql stable
return (
  select a.atttypid = 'timestamptz'::regtype
  from pg_partitioned_table as p join pg_attribute as a on a.attrelid = p.partrelid and a.attnum = p.partattrs[0]
  where p.partrelid = relation
);

-- Makes the partitions that cover the days from..until. Attached, not created in place: ATTACH does not lock readers of the parent out.
-- Runs as owner so that the roles that fill a table may extend it.
create function penguin.create_range_partitions(relation regclass, unit text, from_day date, until_day date)
returns integer language plpgsql security definer set search_path = pg_catalog, penguin as $$
declare
  parent_schema text := (select n.nspname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = relation);
  step interval := case unit when 'daily' then interval '1 day' when 'monthly' then interval '1 month' else interval '1 year' end;
  cut text := case unit when 'daily' then 'day' when 'monthly' then 'month' else 'year' end;
  label text := case unit when 'daily' then 'YYYYMMDD' when 'monthly' then 'YYYYMM' else 'YYYY' end;
  low timestamp := date_trunc(cut, from_day::timestamp);
  part text;
  made integer := 0;
begin
  insert into penguin.partition_rules (table_name, unit) values (relation::text, unit) on conflict do nothing;
  while low <= until_day loop
    part := penguin.short_name(relation) || '_' || to_char(low, label);
    if to_regclass(format('%I.%I', parent_schema, part)) is null then
      execute format('create table %I.%I (like %s including all excluding identity)', parent_schema, part, relation);
      execute format('alter table %I.%I enable row level security', parent_schema, part);
      execute format('alter table %I.%I force row level security', parent_schema, part);
      execute format('alter table %s attach partition %I.%I for values from (%L) to (%L)',
                     relation, parent_schema, part, low::date || case when penguin.cut_by_time(relation) then ' 00:00:00+00' else '' end,
                     (low + step)::date || case when penguin.cut_by_time(relation) then ' 00:00:00+00' else '' end);
      made := made + 1;
    end if;
    low := low + step;
  end loop;
  return made;
end
$$;

-- Partitions ahead for every table with a rule: three units, seven for daily ones.
create function penguin.extend_partitions() returns integer language sql security definer set search_path = pg_catalog, penguin
begin atomic
  select coalesce(sum(penguin.create_range_partitions(
    table_name::regclass, unit, current_date,
    (current_date + case unit when 'daily' then interval '7 days' when 'monthly' then interval '3 months' else interval '3 years' end)::date)), 0)::integer
  from penguin.partition_rules;
end;
revoke execute on function penguin.create_range_partitions(regclass, text, date, date), penguin.extend_partitions() from public;
grant execute on function penguin.create_range_partitions(regclass, text, date, date), penguin.extend_partitions() to pm_etl;

-- Spreads a table over n partitions by tenant.
create function penguin.create_hash_partitions(relation regclass, n integer) returns void language plpgsql as $$
begin
  for i in 0 .. n - 1 loop
    execute format('create table %s partition of %s for values with (modulus %s, remainder %s)',
                   relation::text || '_' || to_char(i, 'FM00'), relation, n, i);
  end loop;
end
$$;
