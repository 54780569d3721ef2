-- Fails if a view of schema tenant is no security barrier, or belongs to a role that row level security would blind.
-- depends_on: {{ ref('tenant_campaign_performance') }}
select c.relname
from pg_class as c
inner join pg_roles as r on c.relowner = r.oid
where c.relnamespace = 'tenant'::regnamespace and c.relkind = 'v'
    and (not coalesce('security_barrier=true' = any(c.reloptions), false) or not (r.rolbypassrls or r.rolsuper))
