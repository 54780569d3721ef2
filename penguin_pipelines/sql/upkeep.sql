-- What the built-in jobs of monitoring and archival do to the tables of OLTP and Content.

-- name: judge_addresses
-- Score, state and listings of each sending address from the latest look-up in each list, and from the scores of providers where given.
with latest as (
  select distinct on (smtp_ip_address_id, blacklist_name) smtp_ip_address_id as id, blacklist_name, is_listed, checked
  from blacklist_checks
  where check_type = 'ip' and smtp_ip_address_id is not null
  order by smtp_ip_address_id, blacklist_name, checked desc
),
listed as (
  select id, count(*) filter (where is_listed) as lists, count(*) filter (where is_listed and blacklist_name = any(%(major)s)) as major,
    jsonb_object_agg(blacklist_name, jsonb_build_object('listed', is_listed, 'checked', checked)) as status
  from latest
  group by id
),
scored as (
  select
    a.id, coalesce(l.major, 0) as major, coalesce(l.status, a.provider_blacklist_status) as status, g.score is not null as is_checked,
    case when g.score is null then a.reputation_score else greatest(0, least(100, round(g.score - 10 * coalesce(l.lists, 0))))::smallint end as score
  from smtp_ip_addresses as a
  left join listed as l on l.id = a.id
  left join unnest(%(ids)s::uuid[], %(scores)s::numeric[]) as g(id, score) on g.id = a.id
  where a.status <> 'burned'
),
judged as (
  select *, case when major > 0 or score < 50 then 'critical' when score < 70 then 'poor' when score < 85 then 'fair' when score >= 85 then 'good' end as state
  from scored
)
update smtp_ip_addresses as a
set reputation_score = j.score, reputation_state = coalesce(j.state, a.reputation_state), provider_blacklist_status = j.status,
  last_reputation_check = case when j.is_checked then now() else a.last_reputation_check end
from judged as j
where a.id = j.id
  and (j.is_checked or (a.reputation_score, coalesce(j.state, a.reputation_state), j.status)
    is distinct from (j.score, a.reputation_state, a.provider_blacklist_status))
returning a.id, a.reputation_state

-- name: watched_addresses
-- Addresses that are looked up.
select id, ip_address from smtp_ip_addresses where status <> 'burned' order by id

-- name: note_listings
-- A row for each list in which an address has another state than at its last look-up.
insert into blacklist_checks (check_type, smtp_ip_address_id, check_value, blacklist_name, is_listed, listing_reason, listed_since, delisted)
select 'ip', %(id)s, %(address)s, n.name, n.listed, n.reason, case when n.listed then now() end, case when not n.listed then now() end
from (
  select given.name, true as listed, given.reason from unnest(%(names)s::text[], %(reasons)s::text[]) as given(name, reason)
  union all
  select distinct c.blacklist_name, false, null from blacklist_checks as c
  where c.smtp_ip_address_id = %(id)s and c.check_type = 'ip' and c.blacklist_name <> all (%(names)s::text[])
) as n
where n.listed is distinct from coalesce((
  select c.is_listed from blacklist_checks as c
  where c.smtp_ip_address_id = %(id)s and c.check_type = 'ip' and c.blacklist_name = n.name
  order by c.checked desc limit 1), false)
returning is_listed

-- name: watched_servers
-- Servers that the provider knows.
select id, hostwinds_instance_id from vps_instances where hostwinds_instance_id is not null and status <> 'decommissioned' order by id

-- name: sync_server
-- What the provider says of a server; written only where it differs.
update vps_instances set status = %(status)s, monthly_cost = %(cost)s
where id = %(id)s and (status, monthly_cost) is distinct from (%(status)s, %(cost)s::numeric(10,2))
returning id

-- name: expired_content
-- Objects past their own expiry and past the days of the policy that holds for them.
-- A hold of the tenant or of everyone keeps them, a null expiry keeps them, and so does a copy that points to them.
select o.storage_key, o.raw_size_bytes
from content_objects as o
cross join lateral (
  select
    bool_or(p.legal_hold) as is_held,
    (array_agg(p.retention_days order by p.tenant_id is null, p.priority desc))[1] as days,
    (array_agg(case when %(archive)s then p.auto_archive else p.auto_delete end order by p.tenant_id is null, p.priority desc))[1] as is_wanted
  from retention_policies as p
  where p.is_active and (p.tenant_id = o.tenant_id or p.tenant_id is null)
    and p.content_type = case o.object_kind
      when 'attachment_set' then 'attachment' when 'transactional' then 'email' when 'report' then 'export' else o.object_kind end
) as policy
where (%(tenant)s::uuid is null or o.tenant_id = %(tenant)s)
  and (not %(archive)s or not o.is_archived)
  and o.expires <= now() and o.created + make_interval(days => policy.days) <= now()
  and policy.is_wanted and not policy.is_held
  and (%(archive)s or not exists (select from content_objects as copy where copy.duplicate_of = o.storage_key))
limit %(limit)s
for update of o skip locked

-- name: delete_content
-- Objects with their bodies and attachments.
delete from content_objects where storage_key = any(%(keys)s)

-- name: archive_content
-- Objects that are kept, out of the way.
update content_objects set is_archived = true, archived = now(), storage_tier = 'archive' where storage_key = any(%(keys)s)
