-- name: server
-- Version and health of a tier.
select current_setting('server_version_num')::int, current_setting('server_version')

-- name: roles
-- The platform's roles with what they must and must not be able to do.
select rolname, rolbypassrls, rolsuper, pg_has_role(current_user, oid, 'member')
from pg_roles where rolname like 'pm\_%' order by rolname

-- name: marts
-- Tables and materialized views of the marts.
select c.relname, c.relkind = 'm'
from pg_class as c
where c.relnamespace = to_regnamespace('marts') and c.relkind in ('r', 'p', 'm') and not c.relispartition
order by c.relname

-- name: mart_rows
-- Rows of one mart.
select count(*) from {mart}

-- name: data_as_of
-- The moment up to which every source that has been read is in the warehouse, and what waits to be built.
select (select min(latest) from (select max(source_read) as latest from ops.bookmarks group by source) as s), (select count(*) from ops.touched_slices)

-- name: queue_depth
-- Jobs per queue by state, and how long the oldest one that may start has been waiting.
select q.name, q.is_active,
  count(j.id) filter (where j.status in ('queued', 'migrated_to_redis') and j.run <= now()) as waiting,
  count(j.id) filter (where j.status = 'queued' and j.run > now()) as delayed,
  count(j.id) filter (where j.status = 'processing') as running,
  coalesce(extract(epoch from now() - min(j.run) filter (where j.status in ('queued', 'migrated_to_redis') and j.run <= now())), 0)::bigint as oldest_wait_seconds,
  (select count(*) from dead_letter_jobs as d where d.queue_name = q.name and not d.is_resolved) as dead_letters
from job_queues as q
left join jobs as j on j.queue_name = q.name and j.status in ('queued', 'migrated_to_redis', 'processing')
group by q.name, q.is_active
order by q.name

-- name: tenants
-- Whether a source holds data at all.
select count(*) from tenants

-- name: sample
-- The question that the demo answers: what the busiest campaigns achieved.
select t.name as tenant, s.campaign_name as campaign, s.sent, s.delivery_rate, s.open_rate, s.reply_rate, s.bounce_rate
from marts.campaign_performance_summary as s
join marts.dim_tenants as t on t.tenant_id = s.tenant_id
order by s.sent desc
limit 5

-- name: a_tenant
-- Some tenant, to show what it sees.
select tenant_id from marts.dim_tenants order by name limit 1
