-- Takes back the stand-ins; tables of a real NileDB are not ours and stay.
do $$
begin
  if (select relowner = current_user::regrole from pg_class where oid = to_regclass('tenants')) then
    drop table if exists tenant_users, users, tenants;
  end if;
end
$$;
