-- name: catalog
-- Facts of our schemas as lines: what a migration makes and a snapshot keeps.
with ours as (
  select c.oid, n.nspname || '.' || c.relname as rel, c.relkind, c.relrowsecurity, c.relforcerowsecurity
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace
  where n.nspname in ('public', 'penguin', 'marts', 'ops', 'archive')
    and c.relkind in ('r', 'p', 'v') and not c.relispartition
    and c.relname not like 'alembic\_version%'
    and pg_get_userbyid(c.relowner) = 'pm_owner'
)
select regexp_replace(line, '\s+', ' ', 'g') from (
  select format('table %s kind=%s rls=%s forced=%s comment=%s', rel, relkind, relrowsecurity, relforcerowsecurity,
                coalesce(obj_description(oid, 'pg_class'), '')) as line
  from ours
  union all
  select format('column %s.%s %s%s%s%s', o.rel, a.attname, format_type(a.atttypid, a.atttypmod),
                case when a.attnotnull then ' not null' else '' end,
                case when a.attidentity <> '' then ' identity' else '' end,
                coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), ''))
  from ours as o
  join pg_attribute as a on a.attrelid = o.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef as d on d.adrelid = o.oid and d.adnum = a.attnum
  union all
  select format('constraint %s %s %s', o.rel, k.conname, pg_get_constraintdef(k.oid))
  from ours as o join pg_constraint as k on k.conrelid = o.oid
  where k.contype in ('p', 'u', 'f', 'c') and (k.contype <> 'f' or k.conparentid = 0)
  union all
  select format('index %s', replace(pg_get_indexdef(i.indexrelid), ' ONLY ', ' '))
  from ours as o join pg_index as i on i.indrelid = o.oid
  union all
  select format('trigger %s %s %s', o.rel, t.tgname, substring(pg_get_triggerdef(t.oid) from position(' BEFORE ' in replace(pg_get_triggerdef(t.oid), ' AFTER ', ' BEFORE '))))
  from ours as o join pg_trigger as t on t.tgrelid = o.oid and not t.tgisinternal
  union all
  select format('policy %s %s %s to %s using %s check %s', o.rel, p.polname, p.polcmd,
                (select string_agg(case when r = 0 then 'public' else pg_get_userbyid(r)::text end, ',' order by 1) from unnest(p.polroles) as r),
                pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
  from ours as o join pg_policy as p on p.polrelid = o.oid
  union all
  -- Postgres 15 names the table before each column, later ones do not.
  select format('view %s %s', o.rel, regexp_replace(pg_get_viewdef(o.oid), '\m\w+\.(\w+)(,|\s+FROM)', '\1\2', 'g'))
  from ours as o where o.relkind = 'v'
  union all
  select format('function %s.%s(%s) secdef=%s md5=%s', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid), p.prosecdef,
                md5(coalesce(p.prosrc, '') || coalesce(regexp_replace(pg_get_function_sqlbody(p.oid), '\s+', ' ', 'g'), '')))
  from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
  where n.nspname in ('penguin', 'marts', 'ops', 'public') and pg_get_userbyid(p.proowner) = 'pm_owner'
  union all
  select format('grant %s %s to %s', o.rel, string_agg(g.privilege_type, ',' order by g.privilege_type), g.grantee)
  from ours as o
  cross join lateral (
    select x.privilege_type, pg_get_userbyid(x.grantee)::text as grantee
    from pg_class as c, aclexplode(c.relacl) as x
    where c.oid = o.oid and x.grantee <> c.relowner
  ) as g
  where g.privilege_type <> 'MAINTAIN'
  group by o.rel, g.grantee
) as facts
order by line collate "C"
