-- Tenants, people and memberships. In production NileDB owns these tables and this revision only verifies them;
-- elsewhere it makes stand-ins of the same shape. Nothing here may alter them: extraction reads them by row xmin.
-- When: before the deploy. Locks: none that others wait for.

create table if not exists tenants (
  id uuid not null default gen_random_uuid() primary key,
  name text,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  deleted timestamptz,
  compute_id uuid
);

create table if not exists users (
  id uuid not null default gen_random_uuid() primary key,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  deleted timestamptz,
  name text,
  family_name text,
  given_name text,
  email text,
  picture text,
  email_verified timestamptz
);

create table if not exists tenant_users (
  tenant_id uuid not null references tenants (id) on delete cascade,
  user_id uuid not null references users (id) on delete cascade,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  deleted timestamptz,
  roles text[] not null default '{}',
  email text,
  primary key (tenant_id, user_id)
);

do $$
declare
  wrong text;
begin
  select string_agg(format('%s.%s %s', w.t, w.c, w.ty), ', ')
  into wrong
  from (values
    ('tenants', 'id', 'uuid'), ('tenants', 'name', 'text'), ('tenants', 'created', 'timestamp with time zone'),
    ('tenants', 'updated', 'timestamp with time zone'), ('tenants', 'deleted', 'timestamp with time zone'), ('tenants', 'compute_id', 'uuid'),
    ('users', 'id', 'uuid'), ('users', 'email', 'text'), ('users', 'name', 'text'), ('users', 'deleted', 'timestamp with time zone'),
    ('tenant_users', 'tenant_id', 'uuid'), ('tenant_users', 'user_id', 'uuid'), ('tenant_users', 'roles', 'text[]'),
    ('tenant_users', 'deleted', 'timestamp with time zone')
  ) as w(t, c, ty)
  where not exists (
    select from pg_attribute as a
    where a.attrelid = to_regclass(w.t) and a.attname = w.c and format_type(a.atttypid, a.atttypmod) = w.ty and not a.attisdropped
  );
  if wrong is not null then
    raise exception 'The identity tables lack %; ask who runs them, they are not ours to alter.', wrong;
  end if;
  -- Stand-ins are ours and get what NileDB gives of itself.
  if (select relowner = current_user::regrole from pg_class where oid = 'tenants'::regclass) then
    create unique index if not exists users_email_key on users (lower(email)) where deleted is null;
    create index if not exists tenant_users_user_id_idx on tenant_users (user_id) where deleted is null;
    create index if not exists tenant_users_roles_idx on tenant_users using gin (roles);
    comment on table tenants is 'A paying customer account; the isolation boundary for every other row.';
    comment on table users is 'A person who can sign in; one login may belong to many tenants. Shape is fixed by NileDB.';
    comment on table tenant_users is 'Membership of a user in a tenant with the roles of that user.';
    comment on column tenants.id is 'the value placed in app.current_tenant_id';
    comment on column users.email is 'login address; compare case-insensitively';
    comment on column users.email_verified is 'time of verification, not a boolean';
    comment on column tenant_users.roles is 'must stay an array (NileDB authentication); owner, manager, employee';
    perform penguin.protect('tenants', 'tenant_self');
    perform penguin.protect('users', 'self_or_tenant_member');
    perform penguin.protect('tenant_users', 'tenant_isolation');
  end if;
end
$$;
