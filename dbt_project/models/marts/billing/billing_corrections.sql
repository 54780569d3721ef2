{{ config(materialized='incremental', incremental_strategy='ledger', full_refresh=false) }}

{%- set full = is_full_build(ref('billing_analytics')) %}

-- What is counted now in windows that are closed, against the closed figure with its earlier corrections: once posted, a
-- difference is gone. Only figures that follow from mail or from the history of contracts: others are snapshots, which a
-- later deletion does not falsify. Windows that reach back into archived days are not counted again.
with {% if not full -%}
-- A window holds thousands of the messages that were touched, and all of them fall on a few days.
touched_windows as (

    select w.id
    from (select distinct tenant_id, activity_date from {{ ref('int_touched_messages') }}) as d
    inner join {{ ref('billing_analytics') }} as w
        on d.tenant_id = w.tenant_id
        and d.activity_date >= {{ utc_date('w.period_start') }} and d.activity_date < {{ utc_date('w.period_end') }}
    union
    select w.id
    from ({{ touched_entities(['oltp.subscription_changes']) }}) as e
    inner join {{ ref('billing_analytics') }} as w on e.tenant_id = w.tenant_id

),

{% endif -%}
windows as (

    select
        w.id, w.tenant_id, w.subscription_id, w.period_start, w.period_end,
        w.emails_sent, w.mailboxes_used, w.campaigns_used, w.mrr_cents,
        {{ utc_date('w.period_start') }} as first_day,
        {{ utc_date('w.period_end') }} as end_day
    from {{ ref('billing_analytics') }} as w
    where w.is_final and {{ utc_date('w.period_start') }} >= {{ online_from() }}
        {%- if not full %} and w.id in (select touched_windows.id from touched_windows){% endif %}

),

emails as (

    select windows.id, sum(f.sent) as counted
    from windows
    inner join {{ ref('mailbox_analytics') }} as f
        on windows.tenant_id = f.tenant_id and f.activity_date >= windows.first_day and f.activity_date < windows.end_day
    group by windows.id

),

mailboxes as (

    select seen.id, count(*) as counted
    from (
        select windows.id, m.mailbox_id
        from windows
        inner join {{ ref('int_window_mailboxes') }} as m
            on windows.tenant_id = m.tenant_id and windows.period_start = m.period_start

        union

        select windows.id, days.mailbox_id
        from windows
        inner join {{ ref('int_mailbox_days') }} as days
            on windows.tenant_id = days.tenant_id
            and days.activity_date >= windows.first_day and days.activity_date < windows.end_day
        where days.mailbox_id <> {{ nobody() }}
    ) as seen
    group by seen.id

),

-- Which campaigns were counted for their state alone is not kept, so only more senders than were counted tell something.
campaigns as (

    select windows.id, count(distinct f.campaign_id) as senders
    from windows
    inner join {{ ref('campaign_analytics') }} as f
        on windows.tenant_id = f.tenant_id and f.activity_date >= windows.first_day and f.activity_date < windows.end_day
    group by windows.id

),

posted as (

    select tenant_id, period_start, period_end, counter, sum(delta) as delta, max(entry) as entry
    from {{ this }}
    group by tenant_id, period_start, period_end, counter

),

counted as (

    select windows.id, 'emails_sent' as counter, windows.emails_sent::bigint as closed, coalesce(emails.counted, 0) as counted, false as at_least
    from windows
    left join emails on windows.id = emails.id

    union all

    select windows.id, 'mailboxes_used', windows.mailboxes_used, coalesce(mailboxes.counted, 0), false
    from windows
    left join mailboxes on windows.id = mailboxes.id

    union all

    select windows.id, 'campaigns_used', windows.campaigns_used, coalesce(campaigns.senders, 0), true
    from windows
    left join campaigns on windows.id = campaigns.id

    union all

    select windows.id, 'mrr_cents', windows.mrr_cents, change.mrr_cents, false
    from windows
    cross join lateral (
        select {{ paid_cents('c.status', 'c.mrr_cents') }} as mrr_cents
        from {{ ref('stg_oltp__subscription_changes') }} as c
        where c.tenant_id = windows.tenant_id and c.subscription_id = windows.subscription_id
            and c.effective < windows.period_end
        order by c.effective desc, c.created desc, c.change_id
        limit 1
    ) as change

),

compared as (

    select
        windows.tenant_id,
        windows.id as billing_id,
        windows.period_start,
        windows.period_end,
        windows.first_day,
        windows.end_day,
        counted.counter,
        coalesce(posted.entry, 0) + 1 as entry,
        counted.closed + coalesce(posted.delta, 0) as old_value,
        case when counted.at_least then greatest(counted.counted, counted.closed + coalesce(posted.delta, 0)) else counted.counted end as new_value
    from counted
    inner join windows on counted.id = windows.id
    left join posted
        on windows.tenant_id = posted.tenant_id and windows.period_start = posted.period_start
        and windows.period_end = posted.period_end and counted.counter = posted.counter

)

select
    c.tenant_id,
    c.billing_id,
    c.period_start,
    c.period_end,
    c.counter,
    c.entry::integer as entry,
    c.old_value::bigint as old_value,
    c.new_value::bigint as new_value,
    coalesce(
        case when c.counter = 'mrr_cents' then (
            select string_agg(distinct s.cause, ', ' order by s.cause)
            from {{ slices() }} as s
            where s.tenant_id = c.tenant_id and s.cause = 'oltp.subscription_changes'
        ) else (
            select string_agg(distinct s.cause, ', ' order by s.cause)
            from {{ ref('int_touched_messages') }} as t
            inner join {{ slices() }} as s on t.tenant_id = s.tenant_id and t.storage_key = s.storage_key
            where t.tenant_id = c.tenant_id and t.activity_date >= c.first_day and t.activity_date < c.end_day
        ) end,
        (select string_agg(distinct s.cause, ', ' order by s.cause) from {{ slices() }} as s where s.kind = 'all'),
        'recount'
    ) as cause,
    {{ as_of() }} as noticed,
    nullif(current_setting('penguin.build_id', true), '')::uuid as build_id
from compared as c
where c.new_value <> c.old_value
