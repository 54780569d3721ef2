-- name: make_ages
-- Messages by age, so that choosing some does not read the warehouse's own tables out of the cache between increments.
drop table if exists public.bench_ages;
create table public.bench_ages as
select tenant_id, storage_key, sent, campaign_id, sequence_step_id, email_account_id, lead_id
from raw_content.email_messages
where direction = 'outbound' and _deleted is null;
create index on public.bench_ages (sent);
analyze public.bench_ages

-- name: has_ages
-- Whether that has been made.
select to_regclass('public.bench_ages') is not null

-- name: present
-- The last moment of the history in the warehouse.
select max(sent) from public.bench_ages

-- name: tenants
-- Whether the generator has run.
select id from public.tenants limit 1

-- name: make_copies
-- Which copies of the generated tenants there are.
create table if not exists public.bench_copies (number integer primary key)

-- name: copies
-- Those that are there.
select number from public.bench_copies

-- name: remember_copy
-- One more.
insert into public.bench_copies values (%(copy)s)

-- name: copy
-- The rows of the generated tenants under other ids, in the order of time, in which production's come. Raw keys begin with
-- the tenant, so other keys may stay.
insert into {table} ({columns}, _change_xid, _deleted)
select {values}, _change_xid, _deleted
from {table}
where {tenant} in (select id from public.bench_tenants)
order by {moment}

-- name: remember_tenants
-- The generated tenants; everybody else is a copy.
create table if not exists public.bench_tenants as select id from raw_oltp.tenants

-- name: active
-- Seconds of statements in this database since it was made.
select active_time / 1000 from pg_stat_database where datname = current_database()

-- name: flush
-- What this session has spent is counted when its transaction ends and not at some moment after.
select pg_stat_force_next_flush()

-- name: known_tenants
-- Tenants with figures.
select distinct tenant_id from marts.campaign_performance_summary order by tenant_id

-- name: tenant_views
-- What a tenant may read.
select table_name from information_schema.views where table_schema = 'tenant' order by table_name

-- name: columns
-- Columns of a view with their types.
select a.attname, format_type(a.atttypid, a.atttypmod)
from pg_attribute as a
where a.attrelid = %(table)s::regclass and a.attnum > 0 and not a.attisdropped
order by a.attnum

-- name: export
-- A view as text.
copy (select * from {}) to stdout (format csv, header)

-- name: make_arrived
-- Which messages got an event of an increment, and the mark that its key was made with.
create table if not exists public.bench_arrived (
  tenant_id uuid, storage_key varchar, sent timestamptz, campaign_id uuid, sequence_step_id uuid, email_account_id uuid, lead_id uuid,
  mark text
)

-- name: remember_arrived
-- Those of one increment.
insert into public.bench_arrived
select tenant_id, storage_key, sent, campaign_id, sequence_step_id, email_account_id, lead_id, %(mark)s
from chosen

-- name: forget_arrived
-- None is left.
truncate public.bench_arrived

-- name: chosen
-- Messages that get an event; `draw` decides of which kind.
create temporary table chosen on commit drop as
select tenant_id, storage_key, sent, campaign_id, sequence_step_id, email_account_id, lead_id, 0.0::float8 as draw
from public.bench_ages
limit 0

-- name: choose
-- Random messages of an age.
insert into chosen
select tenant_id, storage_key, sent, campaign_id, sequence_step_id, email_account_id, lead_id, random()
from (
  select * from public.bench_ages
  where sent >= %(from)s and sent < %(to)s
  order by md5(tenant_id::text || storage_key || %(mark)s)
  limit %(count)s
) as m

-- name: arrive_opens
-- Each loads its pixel once. Rows are as long as those of the generator: shorter ones would fit into what is free on old pages.
insert into raw_content.email_opens
  (id, tenant_id, storage_key, company_id, campaign_id, sequence_step_id, email_account_id, lead_id, event_key, opened, user_agent,
   device_type, mail_client, country, ip_address, is_bot, created, _change_xid)
select
  hashtextextended(storage_key || %(mark)s, 0), tenant_id, storage_key, email_account_id, campaign_id, sequence_step_id,
  email_account_id, lead_id, md5(storage_key || %(mark)s), sent + (%(present)s - sent) * random(),
  'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Safari/605.1.15',
  'desktop', 'Apple Mail', 'US', md5(storage_key), false, %(present)s, pg_current_xact_id()
from chosen
where draw >= %(low)s and draw < %(high)s

-- name: arrive_clicks
-- Each has a link followed.
insert into raw_content.email_clicks
  (id, tenant_id, storage_key, company_id, campaign_id, sequence_step_id, email_account_id, lead_id, event_key, clicked, user_agent,
   clicked_url, device_type, country, ip_address, is_bot, created, _change_xid)
select
  hashtextextended(storage_key || %(mark)s, 0), tenant_id, storage_key, email_account_id, campaign_id, sequence_step_id,
  email_account_id, lead_id, md5(storage_key || %(mark)s), sent + (%(present)s - sent) * random(),
  'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Safari/605.1.15',
  md5(storage_key || 'link'), 'desktop', 'US', md5(storage_key), false, %(present)s, pg_current_xact_id()
from chosen
where draw >= %(low)s and draw < %(high)s

-- name: arrive_replies
-- Each is answered.
insert into raw_content.email_replies
  (id, tenant_id, storage_key, campaign_id, sequence_step_id, email_account_id, lead_id, event_key, replied, is_auto_reply, created,
   _change_xid)
select
  gen_random_uuid(), tenant_id, storage_key, campaign_id, sequence_step_id, email_account_id, lead_id, md5(storage_key || %(mark)s),
  sent + (%(present)s - sent) * random(), false, %(present)s, pg_current_xact_id()
from chosen
where draw >= %(low)s and draw < %(high)s

-- name: arrive_bounces
-- Each comes back.
insert into raw_content.email_bounces
  (id, tenant_id, storage_key, campaign_id, sequence_step_id, email_account_id, lead_id, event_key, bounced, bounce_type, bounce_code,
   bounce_reason, created, _change_xid)
select
  gen_random_uuid(), tenant_id, storage_key, campaign_id, sequence_step_id, email_account_id, lead_id, md5(storage_key || %(mark)s),
  sent + (%(present)s - sent) * random(), 'hard', '5.1.1', '550 5.1.1 No such user', %(present)s, pg_current_xact_id()
from chosen
where draw >= %(low)s and draw < %(high)s

-- name: arrive_unsubscribes
-- Each is the last its reader wants.
insert into raw_content.email_unsubscribes
  (id, tenant_id, storage_key, campaign_id, sequence_step_id, email_account_id, lead_id, event_key, unsubscribed, method, created,
   _change_xid)
select
  gen_random_uuid(), tenant_id, storage_key, campaign_id, sequence_step_id, email_account_id, lead_id, md5(storage_key || %(mark)s),
  sent + (%(present)s - sent) * random(), 'link', %(present)s, pg_current_xact_id()
from chosen
where draw >= %(low)s and draw < %(high)s

-- name: arrive_complaints
-- Each is reported as spam.
insert into raw_content.email_complaints
  (id, tenant_id, storage_key, campaign_id, sequence_step_id, email_account_id, lead_id, event_key, complained, provider, created,
   _change_xid)
select
  gen_random_uuid(), tenant_id, storage_key, campaign_id, sequence_step_id, email_account_id, lead_id, md5(storage_key || %(mark)s),
  sent + (%(present)s - sent) * random(), 'yahoo', %(present)s, pg_current_xact_id()
from chosen
where draw >= %(low)s and draw < %(high)s

-- name: touch
-- The slices that the loader writes with such events.
insert into ops.touched_slices (kind, cause, tenant_id, storage_key, activity_date, campaign_id, step_id, mailbox_id, lead_id)
select
  'message', %(cause)s, tenant_id, storage_key, (sent at time zone 'UTC')::date, campaign_id, sequence_step_id, email_account_id, lead_id
from chosen
where draw >= %(low)s and draw < %(high)s

-- name: depart
-- The events of one kind that came with increments.
delete from {table} as e
using public.bench_arrived as a
where e.tenant_id = a.tenant_id and e.storage_key = a.storage_key and e.event_key = md5(a.storage_key || a.mark)

-- name: touch_departed
-- The slices that the loader writes when the messages themselves have changed: of whatever kind the events were.
insert into ops.touched_slices (kind, cause, tenant_id, storage_key, activity_date, campaign_id, step_id, mailbox_id, lead_id)
select
  'message', 'content.email_messages', tenant_id, storage_key, (sent at time zone 'UTC')::date, campaign_id, sequence_step_id,
  email_account_id, lead_id
from public.bench_arrived
