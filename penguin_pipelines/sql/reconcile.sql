-- Comparing raw tables with their sources, and marts with raw. Digests by bucket are in extract.sql.

-- name: mark
-- Up to where a table has been found equal.
select verified_through::text, system_identifier, timeline, raw_through::text, raw_system_identifier, raw_timeline, fingerprint
from ops.reconcile_marks
where source = %(source)s and table_name = %(table)s

-- name: set_mark
-- Advances the mark of a table that was found equal.
insert into ops.reconcile_marks (source, table_name, verified_through, system_identifier, timeline, raw_through, raw_system_identifier, raw_timeline, fingerprint)
values (%(source)s, %(table)s, %(verified_through)s::xid8, %(system_identifier)s, %(timeline)s, %(raw_through)s::xid8, %(raw_system_identifier)s, %(raw_timeline)s, %(fingerprint)s)
on conflict (source, table_name) do update set
  verified_through = excluded.verified_through, system_identifier = excluded.system_identifier, timeline = excluded.timeline,
  raw_through = excluded.raw_through, raw_system_identifier = excluded.raw_system_identifier, raw_timeline = excluded.raw_timeline,
  fingerprint = excluded.fingerprint, verified = now()

-- name: bookmark
-- How far a table has been read, without a lock.
select horizon::text, system_identifier, timeline, row_count, database_oid from ops.bookmarks where source = %(source)s and table_name = %(table)s

-- name: keep_result
-- Writes down what was found.
insert into ops.reconcile_results
  (subject, state, mode, verified_through, source_rows, raw_rows, compared_rows, buckets, unequal_buckets, missing, stale, ghost, waiting, mended, details, seconds)
values
  (%(subject)s, %(state)s, %(mode)s, %(verified_through)s::text::xid8, %(source_rows)s, %(raw_rows)s, %(compared_rows)s, %(buckets)s, %(unequal_buckets)s,
   %(missing)s, %(stale)s, %(ghost)s, %(waiting)s, %(mended)s, %(details)s, %(seconds)s)

-- name: forget_results
-- A year of results tells enough.
delete from ops.reconcile_results where finished < now() - interval '1 year'

-- name: results
-- The latest result of everything that was ever compared, with its mark.
select distinct on (r.subject) r.subject, r.state, r.verified_through::text, r.finished
from ops.reconcile_results as r
order by r.subject, r.finished desc, r.id desc

-- name: truncated
-- Whether the table was emptied since it was read.
select exists (select from penguin.tombstones where table_name = %(table)s and change_xid >= %(low)s::xid8 and is_truncate)

-- name: make_moving
-- Where the keys of rows in flight land: they differ rightly.
create temporary table moving ({columns}) on commit drop

-- name: moving_rows
-- Keys of rows that were written since the table was read.
copy (select {keys} from {table} where {moving}) to stdout (format binary)

-- name: moving_tombstones
-- Keys of rows that left since the table was read.
copy (
  select distinct {keys} from penguin.tombstones where table_name = {table} and change_xid >= {low}::xid8 and not is_truncate
) to stdout (format binary)

-- name: settled_source
-- Rows of the source that raw must hold as they are.
(select {keys}, {content} as content from {table} where {settled}) as settled

-- name: settled_raw
-- Rows of raw that must stand like that in the source.
(select {keys}, {content} as content from {table} as r where r._deleted is null and {kept} and not exists (select from moving as m where {match})) as settled

-- name: windows
-- Rows by month.
select date_trunc('month', {column}, 'UTC')::text, count(*) from {table} group by 1

-- name: source_windows
-- Months of the source rows that are compared.
(select {column} from {table} where {settled}) as settled

-- name: raw_windows
-- Months of the raw rows that are compared.
(select {column} from {table} as r where r._deleted is null and {kept} and not exists (select from moving as m where {match})) as settled

-- name: make_seen
-- Where keys and hashes of source rows land that are compared one by one.
create temporary table seen (bucket integer, {columns}, content bigint) on commit drop

-- name: seen_rows
-- Keys and hashes of source rows.
copy (select ({bucket})::integer, {keys}, {content} from {table} where {settled} and ({wanted})) to stdout (format binary)

-- name: changed_alone
-- Buckets of raw rows that changed since the mark although the source gave no reason.
select distinct ({bucket})::integer
from {table} as r
where {changed} and r._deleted is null and {kept}
  and not exists (select from moving as m where {match_moving})
  and not exists (select from seen as s where {match_seen})

-- name: absent_or_stale
-- Source rows that raw lacks or holds otherwise, by bucket.
select s.bucket, count(*) filter (where r._change_xid is null), count(*) filter (where r._change_xid is not null)
from seen as s left join {table} as r on {match} and r._deleted is null
where r._change_xid is null or {content} <> s.content
group by 1

-- name: ghosts
-- Rows of raw in the compared buckets that the source does not hold.
select ({bucket})::integer, count(*)
from {table} as r
where {wanted} and r._deleted is null and {kept}
  and not exists (select from moving as m where {match_moving})
  and not exists (select from seen as s where {match_seen})
group by 1

-- name: repair_old_slices
-- Slices that mended rows leave.
insert into ops.touched_slices (kind, cause, {slice})
select distinct {kind}, {cause}, {old}
from (
  select r.* from incoming as i join {table} as r on {match_incoming}
  where r._deleted is null and row({mine})::record *<> row({theirs})::record
  union all
  select r.* from gone as g join {table} as r on {match_gone} where r._deleted is null
) as r {through}

-- name: is_built
-- Whether there is anything to compare the marts with.
select to_regclass('intermediate.int_messages') is not null and to_regclass('raw_content.email_messages') is not null

-- name: counters
-- Counters of a fact: the whole numbers that it shares with the messages.
select a.attname
from pg_attribute as a
join pg_attribute as m on m.attrelid = 'intermediate.int_messages'::regclass and m.attname = a.attname and m.attnum > 0 and not m.attisdropped
where a.attrelid = {fact}::regclass and a.attnum > 0 and not a.attisdropped
  and a.atttypid in ('integer'::regtype, 'smallint'::regtype) and m.atttypid in ('integer'::regtype, 'smallint'::regtype)
order by a.attnum

-- name: fact_sums
-- Tenants and months for which a fact is not the sum of its messages. Months that may just be leaving the online facts are left out.
with sums as (
  select tenant_id, date_trunc('month', activity_date)::date as month, 1 as side, {sums} from intermediate.int_messages where {of_fact} group by 1, 2
  union all
  select tenant_id, date_trunc('month', activity_date)::date, 2, {sums} from {fact} group by 1, 2
), wanted as (select * from sums where month > date_trunc('month', now() at time zone 'UTC')::date - make_interval(months => %(months)s))
select coalesce(a.tenant_id, b.tenant_id), coalesce(a.month, b.month)::text, to_jsonb(a) - array['tenant_id', 'month', 'side'], to_jsonb(b) - array['tenant_id', 'month', 'side']
from (select * from wanted where side = 1) as a
full join (select * from wanted where side = 2) as b on a.tenant_id = b.tenant_id and a.month = b.month
where ({left}) is distinct from ({right}) and not (a.tenant_id is null and b.sent = 0)
order by 1, 2

-- name: message_sums
-- Tenants and months for which the messages of the warehouse are not those of raw.
with replied as (
  select distinct tenant_id, storage_key from raw_content.email_replies where _deleted is null and not is_auto_reply
), unsubscribed as (
  select distinct tenant_id, storage_key from raw_content.email_unsubscribes where _deleted is null
), complained as (
  select distinct tenant_id, storage_key from raw_content.email_complaints where _deleted is null
), raw as (
  select m.tenant_id, date_trunc('month', m.sent at time zone 'UTC')::date as month, count(*) as sent,
    -- What happens to warmup mail comes from other tables.
    count(*) filter (where not m.is_warmup and (m.replied is not null or r.tenant_id is not null)) as replied,
    count(*) filter (where not m.is_warmup and (m.unsubscribed is not null or u.tenant_id is not null)) as unsubscribed,
    count(*) filter (where not m.is_warmup and (m.complained is not null or c.tenant_id is not null)) as spam_complaints
  from raw_content.email_messages as m
  left join replied as r on r.tenant_id = m.tenant_id and r.storage_key = m.storage_key
  left join unsubscribed as u on u.tenant_id = m.tenant_id and u.storage_key = m.storage_key
  left join complained as c on c.tenant_id = m.tenant_id and c.storage_key = m.storage_key
  where m._deleted is null and m.direction = 'outbound' and m.message_type = 'email' and isfinite(m.sent)
  group by 1, 2
), built as (
  select tenant_id, date_trunc('month', activity_date)::date as month, sum(sent) as sent,
    coalesce(sum(replied) filter (where not is_warmup), 0) as replied,
    coalesce(sum(unsubscribed) filter (where not is_warmup), 0) as unsubscribed,
    coalesce(sum(spam_complaints) filter (where not is_warmup), 0) as spam_complaints
  from intermediate.int_messages group by 1, 2
)
select coalesce(a.tenant_id, b.tenant_id), coalesce(a.month, b.month)::text, to_jsonb(a) - array['tenant_id', 'month'], to_jsonb(b) - array['tenant_id', 'month']
from raw as a full join built as b on a.tenant_id = b.tenant_id and a.month = b.month
where (a.sent, a.replied, a.unsubscribed, a.spam_complaints) is distinct from (b.sent, b.replied, b.unsubscribed, b.spam_complaints)
order by 1, 2

-- name: waiting_tenants
-- Tenants with slices that wait to be built; null stands for all of them. Hours are of the queue, which is nobody's mail.
select distinct case when kind = 'all' then null else tenant_id end from ops.touched_slices where kind <> 'hour'

-- name: touch_months
-- Messages and facts of a tenant and month, so that the next build computes them again.
insert into ops.touched_slices (kind, cause, tenant_id, storage_key, activity_date, campaign_id, step_id, mailbox_id)
select 'message', 'reconcile', tenant_id, storage_key, (sent at time zone 'UTC')::date, campaign_id, sequence_step_id, email_account_id
from raw_content.email_messages
where _deleted is null and isfinite(sent) and tenant_id = %(tenant)s and date_trunc('month', sent at time zone 'UTC')::date = %(month)s::date
union all
select 'message', 'reconcile', tenant_id, storage_key, activity_date, campaign_id, step_id, mailbox_id
from intermediate.int_messages where tenant_id = %(tenant)s and date_trunc('month', activity_date)::date = %(month)s::date
union all
select 'message', 'reconcile', tenant_id, null, activity_date, campaign_id, step_id, null
from marts.sequence_step_analytics where tenant_id = %(tenant)s and date_trunc('month', activity_date)::date = %(month)s::date
union all
select 'message', 'reconcile', tenant_id, null, activity_date, campaign_id, null, null
from marts.campaign_analytics where tenant_id = %(tenant)s and date_trunc('month', activity_date)::date = %(month)s::date
union all
select 'message', 'reconcile', tenant_id, null, activity_date, null, null, mailbox_id
from marts.mailbox_analytics where tenant_id = %(tenant)s and date_trunc('month', activity_date)::date = %(month)s::date
