-- Why a fact is what it is: the messages (of the queue: the attempts) behind it, their events and when each arrived. Names of
-- blocks `of_<fact>` are the facts that can be explained; their parameters are the key.

-- name: of_sequence_step_analytics
-- Messages `m` behind one row: a step of a campaign, by the day of the send.
m.tenant_id = %(tenant_id)s::uuid and m.campaign_id = %(campaign_id)s::uuid and m.step_id = %(step_id)s::uuid and m.activity_date = %(activity_date)s::date and not m.is_warmup

-- name: of_campaign_analytics
-- Messages `m` behind one row: a campaign, by the day of the send.
m.tenant_id = %(tenant_id)s::uuid and m.campaign_id = %(campaign_id)s::uuid and m.activity_date = %(activity_date)s::date and not m.is_warmup

-- name: of_mailbox_analytics
-- Messages `m` behind one row: a mailbox, campaigns and one-to-one mail, by the day of the send.
m.tenant_id = %(tenant_id)s::uuid and m.mailbox_id = %(mailbox_id)s::uuid and m.activity_date = %(activity_date)s::date and not m.is_warmup

-- name: of_lead_analytics
-- Messages `m` behind one row: a lead in a campaign, over its whole time.
m.tenant_id = %(tenant_id)s::uuid and m.campaign_id = %(campaign_id)s::uuid and m.lead_id = %(lead_id)s::uuid and not m.is_warmup

-- name: of_warmup_analytics
-- Messages `m` behind one row: the warmup mail of a mailbox, by the day of the send.
m.tenant_id = %(tenant_id)s::uuid and m.mailbox_id = %(mailbox_id)s::uuid and m.activity_date = %(activity_date)s::date and m.is_warmup

-- name: of_infrastructure_analytics
-- Messages `m` behind one row: what a tenant sent through an address, by the day of the send.
-- The row without a tenant says that nobody sent through it, so whatever anybody did counts against it.
(m.tenant_id = %(tenant_id)s::uuid or %(tenant_id)s::uuid is null)
and coalesce(m.smtp_ip_address_id, '00000000-0000-0000-0000-000000000000') = %(smtp_ip_address_id)s::uuid and m.activity_date = %(activity_date)s::date and not m.is_warmup

-- name: of_sequence_step_analytics_monthly
-- Messages `m` behind one row: a step of a campaign, by the month of the send.
m.tenant_id = %(tenant_id)s::uuid and m.campaign_id = %(campaign_id)s::uuid and m.step_id = %(step_id)s::uuid and not m.is_warmup
and m.activity_date >= %(month)s::date and m.activity_date < %(month)s::date + interval '1 month'

-- name: of_campaign_analytics_monthly
-- Messages `m` behind one row: a campaign, by the month of the send.
m.tenant_id = %(tenant_id)s::uuid and m.campaign_id = %(campaign_id)s::uuid and not m.is_warmup
and m.activity_date >= %(month)s::date and m.activity_date < %(month)s::date + interval '1 month'

-- name: of_mailbox_analytics_monthly
-- Messages `m` behind one row: a mailbox, campaigns and one-to-one mail, by the month of the send.
m.tenant_id = %(tenant_id)s::uuid and m.mailbox_id = %(mailbox_id)s::uuid and not m.is_warmup
and m.activity_date >= %(month)s::date and m.activity_date < %(month)s::date + interval '1 month'

-- name: of_infrastructure_analytics_monthly
-- Messages `m` behind one row: what a tenant sent through an address, by the month of the send.
-- None where no tenant is named: those are the idle days of a month in which others may have been busy.
m.tenant_id = %(tenant_id)s::uuid
and coalesce(m.smtp_ip_address_id, '00000000-0000-0000-0000-000000000000') = %(smtp_ip_address_id)s::uuid and not m.is_warmup
and m.activity_date >= %(month)s::date and m.activity_date < %(month)s::date + interval '1 month'

-- name: of_campaign_engagement_hourly
-- Messages `m` behind the rows of one hour, all devices and clients: those of a campaign that something happened to in it.
-- It may have been withdrawn since; when they were sent does not matter.
m.tenant_id = %(tenant_id)s::uuid and m.campaign_id = %(campaign_id)s::uuid and not m.is_warmup and m.storage_key in (
  select e.storage_key from intermediate.int_engagement_events as e
  where e.tenant_id = %(tenant_id)s::uuid and e.occurred >= %(event_hour)s::timestamptz and e.occurred < %(event_hour)s::timestamptz + interval '1 hour'
  union all
  select t.storage_key from intermediate.int_messages as t
  where t.tenant_id = %(tenant_id)s::uuid and t.replied_time >= %(event_hour)s::timestamptz and t.replied_time < %(event_hour)s::timestamptz + interval '1 hour'
  union all
  select r.storage_key from raw_content.email_replies as r
  where r.tenant_id = %(tenant_id)s::uuid and r.replied >= %(event_hour)s::timestamptz and r.replied < %(event_hour)s::timestamptz + interval '1 hour'
  union all
  select r.storage_key from raw_content.email_opens as r
  where r.tenant_id = %(tenant_id)s::uuid and r._deleted > %(since)s
    and r.opened >= %(event_hour)s::timestamptz and r.opened < %(event_hour)s::timestamptz + interval '1 hour'
  union all
  select r.storage_key from raw_content.email_clicks as r
  where r.tenant_id = %(tenant_id)s::uuid and r._deleted > %(since)s
    and r.clicked >= %(event_hour)s::timestamptz and r.clicked < %(event_hour)s::timestamptz + interval '1 hour')

-- name: within_campaign_engagement_hourly
-- Events `e` that the rows of one hour are about: of their messages only what happened in it.
e.occurred >= %(event_hour)s::timestamptz and e.occurred < %(event_hour)s::timestamptz + interval '1 hour'

-- name: within
-- Events `e` that other facts are about: all of their messages.
true

-- name: of_billing_analytics
-- Messages `m` behind one row: everything that a tenant sent in the window that begins then.
m.tenant_id = %(tenant_id)s::uuid and not m.is_warmup
and m.activity_date >= (%(period_start)s::timestamptz at time zone 'UTC')::date
and m.activity_date < (select (w.period_end at time zone 'UTC')::date from marts.billing_analytics as w
  where w.tenant_id = %(tenant_id)s::uuid and w.period_start = %(period_start)s::timestamptz)

-- name: of_queue_analytics
-- Attempts `a` behind one row: a type of job in a queue for a tenant, by the hour in which they began.
-- Those without a tenant are the platform's own.
a.tenant_id is not distinct from %(tenant_id)s::uuid and a.queue_name = %(queue_name)s and a.job_type = %(job_type)s
and a.started >= %(event_hour)s::timestamptz and a.started < %(event_hour)s::timestamptz + interval '1 hour'

-- name: rows
-- The rows of the fact as they are now.
select to_jsonb(f) from {fact} as f where {key} order by 1

-- name: latest
-- The rows of a fact that were written last.
select f.updated, to_jsonb(f) as row from {fact} as f order by f.updated desc, f.id desc limit %(limit)s

-- name: begin
-- One snapshot for all questions.
set transaction isolation level repeatable read read only

-- name: slice
-- The messages of the slice, as they are built and as far as they left since the moment, with what their source row says.
slice as (
  select m.tenant_id, m.storage_key
  from intermediate.int_messages as m
  where {condition}
  union
  select m.tenant_id, m.storage_key
  from (
    select r.tenant_id, r.storage_key, r.campaign_id, r.lead_id, r.smtp_ip_address_id, r.is_warmup,
      coalesce(r.sequence_step_id, '00000000-0000-0000-0000-000000000000') as step_id,
      coalesce(r.email_account_id, '00000000-0000-0000-0000-000000000000') as mailbox_id,
      (r.sent at time zone 'UTC')::date as activity_date
    from raw_content.email_messages as r
    where (r.tenant_id = %(tenant_id)s::uuid or %(tenant_id)s::uuid is null) and r._deleted > %(since)s
      and r.direction = 'outbound' and r.message_type = 'email' and isfinite(r.sent)
  ) as m
  where {condition}
),

traces as (
  select r.*
  from slice join raw_content.email_messages as r on r.tenant_id = slice.tenant_id and r.storage_key = slice.storage_key
),

-- An event that was withdrawn since has no class any more, and when it had come is told by its source alone.
events as (
  select e.tenant_id, e.storage_key, e.kind, e.class, e.rule_version, e.occurred, e.is_counted,
    coalesce(o._loaded, c._loaded) as loaded, null::timestamptz as gone
  from slice
  join intermediate.int_engagement_events as e on e.tenant_id = slice.tenant_id and e.storage_key = slice.storage_key
  left join lateral (
    select min(r._loaded) as _loaded from raw_content.email_opens as r
    where e.kind = 'open' and r.tenant_id = e.tenant_id and r.storage_key = e.storage_key and r.event_key = e.event_key) as o on true
  left join lateral (
    select min(r._loaded) as _loaded from raw_content.email_clicks as r
    where e.kind = 'click' and r.tenant_id = e.tenant_id and r.storage_key = e.storage_key and r.event_key = e.event_key) as c on true
  union all
  select r.tenant_id, r.storage_key, 'open', case when r.is_bot then 'machine' else 'unknown' end, null, r.opened, true, r.created, r._deleted
  from slice join raw_content.email_opens as r on r.tenant_id = slice.tenant_id and r.storage_key = slice.storage_key
  where r._deleted > %(since)s
  union all
  select r.tenant_id, r.storage_key, 'click', case when r.is_bot then 'machine' else 'unknown' end, null, r.clicked, true, r.created, r._deleted
  from slice join raw_content.email_clicks as r on r.tenant_id = slice.tenant_id and r.storage_key = slice.storage_key
  where r._deleted > %(since)s
  union all
  select r.tenant_id, r.storage_key, case when r.is_auto_reply then 'auto_reply' else 'reply' end, null, null, r.replied, true, case when r._deleted is null then r._loaded else r.created end, r._deleted
  from slice join raw_content.email_replies as r on r.tenant_id = slice.tenant_id and r.storage_key = slice.storage_key
  where r._deleted is null or r._deleted > %(since)s
  union all
  select r.tenant_id, r.storage_key, 'unsubscribe', null, null, r.unsubscribed, true, case when r._deleted is null then r._loaded else r.created end, r._deleted
  from slice join raw_content.email_unsubscribes as r on r.tenant_id = slice.tenant_id and r.storage_key = slice.storage_key
  where r._deleted is null or r._deleted > %(since)s
  union all
  select r.tenant_id, r.storage_key, 'complaint', null, null, r.complained, true, case when r._deleted is null then r._loaded else r.created end, r._deleted
  from slice join raw_content.email_complaints as r on r.tenant_id = slice.tenant_id and r.storage_key = slice.storage_key
  where r._deleted is null or r._deleted > %(since)s
  union all
  select r.tenant_id, r.storage_key, 'bounce', r.bounce_type, null, r.bounced, true, case when r._deleted is null then r._loaded else r.created end, r._deleted
  from slice join raw_content.email_bounces as r on r.tenant_id = slice.tenant_id and r.storage_key = slice.storage_key
  where r._deleted is null or r._deleted > %(since)s
  union all
  -- What partner mailboxes do, with warmup mail alone.
  select r.tenant_id, r.storage_key, 'partner ' || replace(r.interaction_type, '_', ' '), null, null, r.interacted, true, case when r._deleted is null then r._loaded else r.created end, r._deleted
  from traces as t join raw_content.warmup_interactions as r on r.tenant_id = t.tenant_id and r.storage_key = t.storage_key
  where t.is_warmup and (r._deleted is null or r._deleted > %(since)s)
)

-- name: milestones
-- What is known of the messages of the slice by everything that had arrived by a moment.
-- The rules are those of int_messages: a test holds both equal.
known as (
  select t.tenant_id, t.storage_key, t.sent, t.open_count, t.click_count,
    -- Of a row that was written since, only milestones that lie before the moment can have been there.
    case when t._loaded <= %(moment)s or t.delivered <= %(moment)s then t.delivered end as confirmed,
    case when t._loaded <= %(moment)s or t.opened <= %(moment)s then t.opened end as opened,
    case when t._loaded <= %(moment)s or t.clicked <= %(moment)s then t.clicked end as clicked,
    case when t._loaded <= %(moment)s or t.replied <= %(moment)s then t.replied end as replied,
    case when t._loaded <= %(moment)s or t.unsubscribed <= %(moment)s then t.unsubscribed end as unsubscribed,
    case when t._loaded <= %(moment)s or t.complained <= %(moment)s then t.complained end as complained,
    case when t._loaded <= %(moment)s or t.bounced <= %(moment)s then t.bounced end as bounced,
    case when t._loaded <= %(moment)s or t.failed <= %(moment)s then t.failed end as failed,
    t.bounce_type
  from traces as t
  where (t._deleted is null or t._deleted > %(moment)s) and (
    t._loaded <= %(moment)s
    -- Written anew since: it was there before if its source had it when the tenant's mail was last read before the moment.
    or t.created <= (select max(r._loaded) from raw_content.email_messages as r where r.tenant_id = coalesce(%(tenant_id)s::uuid, t.tenant_id) and r._loaded <= %(moment)s))
),

seen as (
  select k.tenant_id, k.storage_key,
    min(e.occurred) filter (where (e.kind = 'open' and e.class <> 'machine') or e.kind = 'partner open') as opened,
    min(e.occurred) filter (where (e.kind = 'click' and e.class <> 'machine') or e.kind = 'partner click') as clicked,
    min(e.occurred) filter (where e.kind in ('reply', 'partner reply')) as replied,
    min(e.occurred) filter (where e.kind = 'unsubscribe') as unsubscribed,
    min(e.occurred) filter (where e.kind = 'complaint') as complained,
    count(*) filter (where e.kind = 'open') as open_events,
    count(*) filter (where e.kind = 'click') as click_events,
    count(*) filter (where e.kind = 'open' and e.is_counted) as opens_total,
    count(*) filter (where e.kind = 'click' and e.is_counted) as clicks_total,
    nullif(count(*) filter (where e.kind = 'partner open'), 0) as partner_opens,
    nullif(count(*) filter (where e.kind = 'partner click'), 0) as partner_clicks,
    coalesce(bool_or(e.class = 'machine') filter (where e.kind = 'open'), false) as opened_machine,
    coalesce(bool_or(e.class = 'machine') filter (where e.kind = 'click'), false) as clicked_machine
  from known as k
  left join events as e on e.tenant_id = k.tenant_id and e.storage_key = k.storage_key
    and e.loaded <= %(moment)s and (e.gone is null or e.gone > %(moment)s)
  group by k.tenant_id, k.storage_key
),

reports as (
  select distinct on (tenant_id, storage_key) tenant_id, storage_key, bounced, bounce_type
  from (
    select tenant_id, storage_key, occurred as bounced, class as bounce_type from events
    where kind = 'bounce' and loaded <= %(moment)s and (gone is null or gone > %(moment)s)
    union all
    select tenant_id, storage_key, bounced, bounce_type from known where bounced is not null
  ) as r
  order by tenant_id, storage_key, bounced desc, bounce_type
),

milestones as (
  select k.sent, k.confirmed, k.failed, s.opened_machine, s.clicked_machine, r.bounced, r.bounce_type,
    least(k.opened, s.opened, k.clicked, s.clicked) as opened,
    least(k.clicked, s.clicked) as clicked,
    least(k.replied, s.replied) as replied,
    least(k.unsubscribed, s.unsubscribed) as unsubscribed,
    least(k.complained, s.complained) as complained,
    case when s.open_events > 0 then s.opens_total else coalesce(s.partner_opens, k.open_count) end as opens_total,
    case when s.click_events > 0 then s.clicks_total else coalesce(s.partner_clicks, k.click_count) end as clicks_total
  from known as k
  join seen as s on s.tenant_id = k.tenant_id and s.storage_key = k.storage_key
  left join reports as r on r.tenant_id = k.tenant_id and r.storage_key = k.storage_key
)

-- name: counters
-- What the counters are by everything that had arrived by a moment.
with {slice},

{milestones},

decided as (
  select *,
    least(opened, clicked, replied, unsubscribed, complained) is not null as is_engaged,
    least(opened, clicked, replied, unsubscribed, complained) is null and bounced is not null and bounced >= coalesce(confirmed, bounced) as is_bounced
  from milestones
)

select
  count(*) as sent,
  count(*) filter (where is_engaged or (not is_bounced and (confirmed is not null
    or (failed is null and sent <= %(clock)s::timestamptz - make_interval(hours => %(silence_hours)s))))) as delivered,
  count(opened) as opened_tracked,
  count(clicked) as clicked_tracked,
  count(replied) as replied,
  count(*) filter (where is_bounced) as bounced,
  count(*) filter (where is_bounced and bounce_type = 'hard') as hard_bounced,
  count(*) filter (where is_bounced and bounce_type <> 'hard') as soft_bounced,
  count(unsubscribed) as unsubscribed,
  count(complained) as spam_complaints,
  coalesce(sum(opens_total), 0)::bigint as opens_total,
  coalesce(sum(clicks_total), 0)::bigint as clicks_total,
  count(*) filter (where opened_machine) as opened_machine,
  count(*) filter (where clicked_machine) as clicked_machine
from decided

-- name: counters_campaign_engagement_hourly
-- What the counters of an hour are by everything that had arrived by a moment.
with {slice},

{milestones},

happened as (
  select e.kind
  from events as e
  join known as k on k.tenant_id = e.tenant_id and k.storage_key = e.storage_key
  where {within} and e.is_counted and e.loaded <= %(moment)s and (e.gone is null or e.gone > %(moment)s)
  union all
  select 'first reply'
  from (select replied as occurred from milestones) as e
  where {within}
)

select
  count(*) filter (where kind = 'open') as opens,
  count(*) filter (where kind = 'click') as clicks,
  count(*) filter (where kind = 'first reply') as replies
from happened

-- name: causes
-- What arrived or changed since the moment, counted by cause.
with {slice}

select 'message ' || case
    when t._deleted > %(since)s then 'deleted'
    when t.created > %(since)s then 'added'
    else 'rewritten' end as cause,
  null as class, null::smallint as rule_version, count(*) as count, count(*) as messages,
  min(t.sent) as first_occurred, max(t.sent) as last_occurred, max(t._loaded) as last_loaded
from traces as t
where t._loaded > %(since)s
group by 1
union all
select e.kind || case when e.gone is null then '' else ' withdrawn' end, e.class, e.rule_version, count(*), count(distinct e.storage_key),
  min(e.occurred), max(e.occurred), max(coalesce(e.gone, e.loaded))
from events as e
where coalesce(e.gone, e.loaded) > %(since)s and {within}
group by 1, e.class, e.rule_version
union all
select '72 hours without a sign', null, null, count(*), count(*), min(t.sent), max(t.sent), null
from traces as t
join intermediate.int_messages as m on m.tenant_id = t.tenant_id and m.storage_key = t.storage_key
where m.delivery_basis = 'implied_by_silence' and t.sent + make_interval(hours => %(silence_hours)s) > %(since)s
having count(*) > 0
order by 1, 2

-- name: events
-- The newest of them one by one.
with {slice},

everything as (
  select t._loaded as loaded, coalesce(t._deleted, t.sent) as occurred, t.storage_key, null as class, null::smallint as rule_version,
    'message ' || case when t._deleted is not null then 'deleted' when t.created > %(since)s then 'added' else 'rewritten' end as kind
  from traces as t
  where t._loaded > %(since)s
  union all
  select coalesce(e.gone, e.loaded), e.occurred, e.storage_key, e.class, e.rule_version,
    e.kind || case when e.gone is null then '' else ' withdrawn' end
  from events as e
  where coalesce(e.gone, e.loaded) > %(since)s and {within}
)

select loaded, occurred, kind, class, rule_version, storage_key
from everything
order by loaded desc, occurred desc, storage_key
limit %(limit)s

-- name: messages
-- All that is behind the row by kind and rule, whenever it came. What only the messages themselves say has no class and no rule.
with {slice},

everything as (
  select e.kind, e.class, e.rule_version, e.storage_key, e.occurred from events as e where e.gone is null
  union all
  select said.kind || ', by the message', null, null, t.storage_key, said.occurred
  from traces as t
  cross join lateral (values
    ('sent', t.sent), ('delivered', t.delivered), ('opened', t.opened), ('clicked', t.clicked), ('replied', t.replied),
    ('unsubscribed', t.unsubscribed), ('complained', t.complained), ('bounced', t.bounced), ('failed', t.failed)) as said (kind, occurred)
  where t._deleted is null and said.occurred is not null
)

select e.kind, e.class, e.rule_version, count(*), count(distinct e.storage_key) as messages, min(e.occurred) as first_occurred, max(e.occurred) as last_occurred
from everything as e
where {within}
group by e.kind, e.class, e.rule_version
order by e.kind, e.class

-- name: slice_queue_analytics
-- The attempts of the slice and when their lines were loaded. Lines that the source has purged stay, as they do in the fact.
attempts as (
  select a.*, l._loaded as loaded
  from staging.stg_queue__attempts as a
  join raw_queue.job_logs as l on l.id = a.log_id
  where {condition}
)

-- name: counters_queue_analytics
-- What the counters are by everything that had arrived by a moment.
with {slice}

select
  count(*) as attempts,
  count(*) filter (where status = 'success') as completed,
  count(*) filter (where status <> 'success') as failed,
  count(*) filter (where status = 'retry') as retried,
  count(*) filter (where status = 'failed') as dead_lettered,
  count(*) filter (where status <> 'retry' and attempt_number > 1) as ended_after_retry,
  count(wait_ms) as waits,
  coalesce(sum(wait_ms), 0)::bigint as wait_ms,
  coalesce(sum(duration_ms), 0)::bigint as duration_ms,
  coalesce(sum(duration_ms) filter (where status <> 'success'), 0)::bigint as failed_duration_ms
from attempts
where loaded <= %(moment)s

-- name: causes_queue_analytics
-- What arrived since the moment, counted by cause. A line that had ended before was read late or written again.
with {slice}

select 'attempt ' || case when finished > %(since)s then 'added' else 'late or rewritten' end as cause, status, error_class,
  count(*) as count, count(distinct job_id) as jobs, min(started) as first_occurred, max(started) as last_occurred, max(loaded) as last_loaded
from attempts
where loaded > %(since)s
group by 1, status, error_class
order by 1, status, error_class

-- name: events_queue_analytics
-- The newest attempts one by one.
with {slice}

select loaded, started, finished, status, error_class, attempt_number, wait_ms, duration_ms, job_id, log_id
from attempts
where loaded > %(since)s
order by loaded desc, started desc, log_id
limit %(limit)s

-- name: messages_queue_analytics
-- All attempts of the slice by how they ended, whenever they came.
with {slice}

select status, error_class, count(*), count(distinct job_id) as jobs, min(started) as first_occurred, max(started) as last_occurred
from attempts
group by status, error_class
order by status, error_class

-- name: corrections
-- What was posted to the ledger for the closed windows that hold the slice.
select c.period_start, c.counter, c.entry, c.old_value, c.new_value, c.delta, c.cause, c.noticed, c.build_id, c.created > %(since)s as is_since
from marts.billing_corrections as c
where c.tenant_id = %(tenant_id)s::uuid and c.period_start <= %(last)s::timestamptz and c.period_end > %(first)s::timestamptz
order by c.period_start, c.counter, c.entry

-- name: waiting
-- Changes of the tenant that have arrived and are not built yet.
select count(*) from ops.touched_slices where kind = 'all' or tenant_id = %(tenant_id)s::uuid or %(tenant_id)s::uuid is null
