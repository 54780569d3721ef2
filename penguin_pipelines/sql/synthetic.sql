-- name: has_tenants
-- Whether the OLTP tier holds any customer.
select exists (select from tenants)

-- name: has_messages
-- Whether the Content tier holds any stored object.
select exists (select from content_objects)

-- name: has_jobs
-- Whether the Queue tier holds any job.
select exists (select from jobs)

-- name: partitions
-- Makes the partitions of a table for the days that will be written.
select penguin.create_range_partitions(%(table)s::regclass, %(unit)s, %(low)s, %(high)s)

-- name: prices
-- Price list without plans that are sold by quote.
select id::text, slug, price_monthly, price_yearly from plans where price_monthly is not null order by slug

-- name: record_action
-- Appends one entry to the audit log.
select marts.record_admin_action(
  %(admin)s::uuid, %(action)s, %(kind)s, %(resource)s, %(tenant)s::uuid, %(old)s::jsonb, %(new)s::jsonb,
  created => %(created)s
)

-- name: tenants
-- Tenants in a fixed order.
select id::text from tenants where deleted is null order by id

-- name: companies
-- Workspaces in a fixed order.
select id::text, tenant_id::text from companies order by id

-- name: domains
-- Domains with the addresses that carry their mail.
select d.id::text, d.domain, array_remove(array_agg(a.smtp_ip_address_id::text order by a.smtp_ip_address_id), null)
from domains as d
left join domain_ip_assignments as a on a.domain_id = d.id and a.status = 'active'
group by d.id, d.domain
order by d.id

-- name: mailboxes
-- Mailboxes that can send, with the start of their warmup.
select b.id::text, b.email, b.company_id::text, b.domain_id::text, min(w.started)
from email_accounts as b
left join warmup_schedules as w on w.email_account_id = b.id
where b.status = 'active' and b.company_id is not null
group by b.id
order by b.id

-- name: campaigns
-- Campaigns that send, with their e-mail steps in order.
select c.id::text, c.company_id::text, array_agg(s.id::text order by s.step_order)
from campaigns as c
join campaign_sequence_steps as s on s.campaign_id = c.id and s.step_type = 'email' and s.is_active
where c.status = 'sending'
group by c.id
order by c.id

-- name: last_moment
-- Newest stored object of the given tenants.
select max(newest.created)
from unnest(%(tenants)s::uuid[]) as t (id)
cross join lateral (select max(o.created) as created from content_objects as o where o.tenant_id = t.id) as newest

-- name: size
-- Counts that grow with each append.
select (select count(*) from leads), (select count(*) from subscription_changes)

-- name: newest_open
-- Highest number of an open.
select max(id) from email_opens

-- name: newest_sample
-- When a queue was last looked at.
select max(sampled) from queue_health

-- name: first_user
-- Person who stands for the staff.
select id::text from users order by id limit 1

-- name: messages_at
-- For each tenant and moment the first customer message sent after it.
select distinct on (m.storage_key)
  m.tenant_id::text, m.storage_key, m.company_id::text, m.campaign_id::text, m.sequence_step_id::text,
  m.email_account_id::text, m.lead_id::text, m.message_ref_id::text, m.to_email, m.sent
from unnest(%(tenants)s::uuid[], %(moments)s::timestamptz[]) as w (tenant_id, moment)
cross join lateral (
  select * from email_messages as e
  where e.tenant_id = w.tenant_id and e.sent >= w.moment and e.direction = 'outbound' and not e.is_warmup
    and e.bounced is null
  order by e.sent, e.storage_key
  limit 1
) as m
order by m.storage_key

-- name: suppress
-- Blocks addresses that are not blocked yet.
insert into suppression_list (id, tenant_id, email, reason, source, scope, created, updated)
select s.id, s.tenant_id, s.email, %(reason)s, 'webhook', 'tenant', %(created)s, %(created)s
from unnest(%(ids)s::uuid[], %(tenants)s::uuid[], %(emails)s::text[]) as s (id, tenant_id, email)
on conflict do nothing

-- name: mark_leads
-- Sets the state of leads.
update leads set status = %(state)s where id = any(%(leads)s::uuid[]) and status <> %(state)s

-- name: move_messages
-- Corrects the time of messages by more than a day.
update email_messages
set queued = queued - interval '26 hours', sent = sent - interval '26 hours', delivered = delivered - interval '26 hours'
where storage_key = any(%(keys)s::text[])

-- name: move_register
-- The same correction in the register.
update inbox_message_refs
set queued = queued - interval '26 hours', sent = sent - interval '26 hours'
where id = any(%(ids)s::uuid[])

-- name: delete_email_opens
-- Opens of removed messages.
delete from email_opens where storage_key = any(%(keys)s::text[])

-- name: delete_email_clicks
-- Clicks of removed messages.
delete from email_clicks where storage_key = any(%(keys)s::text[])

-- name: delete_email_bounces
-- Bounces of removed messages.
delete from email_bounces where storage_key = any(%(keys)s::text[])

-- name: delete_email_replies
-- Replies to removed messages.
delete from email_replies where storage_key = any(%(keys)s::text[])

-- name: delete_email_unsubscribes
-- Unsubscribes of removed messages.
delete from email_unsubscribes where storage_key = any(%(keys)s::text[])

-- name: delete_email_complaints
-- Complaints about removed messages.
delete from email_complaints where storage_key = any(%(keys)s::text[])

-- name: delete_warmup_interactions
-- Interactions of removed messages.
delete from warmup_interactions where storage_key = any(%(keys)s::text[])

-- name: delete_email_messages
-- Traces of removed messages.
delete from email_messages where storage_key = any(%(keys)s::text[])

-- name: delete_content_objects
-- Envelopes of removed messages; bodies and files follow.
delete from content_objects where storage_key = any(%(keys)s::text[])

-- name: delete_register
-- Removed messages in the register.
delete from inbox_message_refs where id = any(%(ids)s::uuid[])

-- name: delete_leads
-- Hard delete of leads; their enrolments follow.
delete from leads where id in (select id from leads order by (id < %(start)s::uuid), id limit %(limit)s)

-- name: finish_leads
-- Leads that reached the end of everything.
update leads set status = 'completed'
where id in (select id from leads where status = 'active' order by (id < %(start)s::uuid), id limit %(limit)s)

-- name: finish_campaign
-- Ends a campaign of a tenant that has another one still sending.
update campaigns set status = 'completed', completed = %(present)s
where id in (
  select c.id from campaigns as c
  where c.status = 'sending'
    and exists (select from campaigns as o where o.tenant_id = c.tenant_id and o.status = 'sending' and o.id <> c.id)
  order by (c.id < %(start)s::uuid), c.id
  limit %(limit)s
)

-- name: raise_limits
-- Mailboxes that may send more each day.
update email_accounts set daily_limit = daily_limit + 10
where id in (select id from email_accounts where status = 'active' order by (id < %(start)s::uuid), id limit %(limit)s)

-- name: delete_suppression
-- Somebody takes an address off the list.
delete from suppression_list
where id in (
  select id from suppression_list where scope = 'tenant' order by (id < %(start)s::uuid), id limit %(limit)s
)

-- name: delete_step
-- Removes the last step of a draft.
delete from campaign_sequence_steps
where id in (
  select s.id from campaign_sequence_steps as s join campaigns as c on c.id = s.campaign_id
  where c.status = 'draft' and s.executed_count = 0 and s.step_order > 1
    and s.step_order = (select max(o.step_order) from campaign_sequence_steps as o where o.campaign_id = s.campaign_id)
  order by (s.id < %(start)s::uuid), s.id
  limit %(limit)s
)

-- name: swap_steps
-- Exchanges the first pause and the second e-mail of a campaign.
update campaign_sequence_steps set step_order = 5 - step_order
where step_order in (2, 3) and campaign_id in (
  select c.id from campaigns as c
  where c.status = 'sending'
    and (select count(*) from campaign_sequence_steps as s where s.campaign_id = c.id and s.step_order in (2, 3)) = 2
  order by (c.id < %(start)s::uuid), c.id
  limit %(limit)s
)

-- name: rename_user
-- A person changes the family name.
update users set family_name = family_name || '-Berg', name = given_name || ' ' || family_name || '-Berg', updated = now()
where id in (select id from users order by (id < %(start)s::uuid), id limit %(limit)s)

-- name: change_plan
-- A contract moves to the next plan of the price list, or from the highest back to the lowest.
update subscriptions as s set plan_id = (
  select n.id from plans as p
  join plans as n on n.slug = case p.slug when 'starter' then 'professional' when 'professional' then 'business' else 'starter' end
  where p.id = s.plan_id
)
where s.id in (
  select id from subscriptions where status in ('active', 'past_due') order by (id < %(start)s::uuid), id limit %(limit)s
)

-- name: note_plan_change
-- History of contracts whose plan differs from their last entry.
insert into subscription_changes
  (id, tenant_id, subscription_id, plan_id, status, billing_interval, mrr_cents, reason, effective, created)
select %(key)s::uuid, s.tenant_id, s.id, s.plan_id, s.status, s.billing_interval,
  case s.billing_interval when 'month' then p.price_monthly else round(p.price_yearly / 12.0) end
  + coalesce((select sum(100 * a.quantity * a.price_monthly) from subscription_addons as a where a.subscription_id = s.id and a.is_active), 0),
  'plan_change', %(present)s, %(present)s
from subscriptions as s
join plans as p on p.id = s.plan_id
cross join lateral (
  select c.plan_id from subscription_changes as c where c.subscription_id = s.id order by c.effective desc, c.change_xid desc limit 1
) as last
where s.status in ('active', 'past_due') and last.plan_id <> s.plan_id
order by (s.id < %(start)s::uuid), s.id
limit %(limit)s

-- name: finish_jobs
-- Waiting jobs that are done by now.
update jobs
set status = 'completed', attempt_count = 1, started = %(present)s, completed = %(present)s, progress_percentage = 100
where id in (select id from jobs where status = 'queued' and run <= %(present)s order by id limit %(limit)s)
