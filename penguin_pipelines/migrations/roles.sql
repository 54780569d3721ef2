-- Roles of all tiers, created once per cluster and never dropped by `down`.
-- Needs a superuser the first time, because two of the roles bypass row level security; every later run changes nothing.
do $$
declare
  wanted record;
begin
  for wanted in
    select * from (values
      ('pm_owner',   'nobypassrls'),
      ('pm_loader',  'bypassrls'),
      ('pm_etl',     'bypassrls'),
      ('pm_app',     'nobypassrls'),
      ('pm_worker',  'nobypassrls'),
      ('pm_staff',   'nobypassrls'),
      ('pm_analyst', 'nobypassrls'),
      ('pm_tenant',  'nobypassrls')
    ) as r(name, bypass)
  loop
    if not exists (select from pg_roles where rolname = wanted.name) then
      begin
        execute format('create role %I nologin %s', wanted.name, wanted.bypass);
      exception when duplicate_object or unique_violation then
        null;  -- the migration of another tier of this cluster was faster
      end;
    end if;
  end loop;

  for wanted in
    select * from (
      select rolname, current_user::text from pg_roles where rolname like 'pm\_%'
      union all
      -- Sees whose open transaction holds the horizon of extraction back.
      select 'pg_read_all_stats', 'pm_loader'
      union all
      -- The analyst's login of the local warehouse.
      select 'pm_analyst', rolname from pg_roles where rolname = 'penguin_analyst'
    ) as m(name, member)
  loop
    if not pg_has_role(wanted.member, wanted.name, 'member') then
      begin
        execute format('grant %I to %I', wanted.name, wanted.member);
      exception when unique_violation then
        null;  -- the same
      end;
    end if;
  end loop;

  execute format('grant create, temporary on database %I to pm_owner, pm_loader, pm_etl', current_database());
  revoke create on schema public from public;
  grant usage, create on schema public to pm_owner;
  grant usage on schema public to pm_loader, pm_etl, pm_app, pm_worker, pm_staff;
end
$$;
