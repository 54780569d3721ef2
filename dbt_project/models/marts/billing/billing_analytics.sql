{{ config(
    materialized='incremental', incremental_strategy='slices', full_refresh=false,
    unique_key=['tenant_id', 'period_start', 'period_end'], touched='touched_windows', keep_when='true'
) }}

-- Each counter by its own query, merged by window: joined in one statement they would multiply each other's rows.
-- Windows are made by int_usage_windows; a final one is frozen and not even read.
-- depends_on: {{ ref('int_usage_windows') }}
with windows as (

    select
        w.*,
        w.period_start <= {{ as_of() }} and w.period_end > {{ as_of() }} as is_open,
        {{ utc_date('w.period_start') }} as first_day,
        {{ utc_date('w.period_end') }} as end_day
    from marts.billing_analytics as w
    where not w.is_final
        {%- if not is_full_build() %}
        and w.tenant_id in ({{ touched_tenants() }})
        {%- endif %}

),

contracts as (

    select
        windows.id,
        s.billing_interval,
        coalesce(case when not windows.is_open then change.plan_id end, s.plan_id, windows.plan_id) as plan_id,
        coalesce(case when not windows.is_open then change.status end, s.status) as status,
        change.mrr_cents as booked_mrr_cents
    from windows
    left join {{ ref('stg_oltp__subscriptions') }} as s
        on windows.tenant_id = s.tenant_id and windows.subscription_id = s.subscription_id
    left join lateral (
        select c.plan_id, c.status, c.mrr_cents
        from {{ ref('stg_oltp__subscription_changes') }} as c
        where c.tenant_id = windows.tenant_id and c.subscription_id = windows.subscription_id
            and c.effective < least(windows.period_end, {{ as_of() }})
        order by c.effective desc, c.created desc, c.change_id
        limit 1
    ) as change on true

),

addons as (

    -- Those of its time: bought before the end of the window, and not given back before it.
    select
        windows.id,
        sum(a.quantity) filter (where a.addon_type = 'extra_emails') as extra_emails,
        sum(round(100 * a.quantity * a.price_monthly)) as cents
    from windows
    inner join {{ ref('stg_oltp__subscription_addons') }} as a
        on windows.tenant_id = a.tenant_id and windows.subscription_id = a.subscription_id
    where a.created < windows.period_end and (a.is_active or a.updated >= windows.period_end)
    group by windows.id

),

emails as (

    select windows.id, sum(f.sent) as used
    from windows
    inner join {{ ref('mailbox_analytics') }} as f
        on windows.tenant_id = f.tenant_id and f.activity_date >= windows.first_day and f.activity_date < windows.end_day
    group by windows.id

),

mailboxes as (

    select windows.id, count(*) as used
    from windows
    inner join {{ ref('int_window_mailboxes') }} as m
        on windows.tenant_id = m.tenant_id and windows.period_start = m.period_start
    group by windows.id

),

domains as (

    select windows.id, count(*) as used
    from windows
    inner join {{ ref('stg_oltp__domains') }} as d
        on windows.tenant_id = d.tenant_id and d.created < windows.period_end
    group by windows.id

),

-- Those that sent mail in the window, and those whose run from start to completion touches it.
campaigns as (

    select used_campaigns.id, count(*) as used
    from (
        select windows.id, f.campaign_id
        from windows
        inner join {{ ref('campaign_analytics') }} as f
            on windows.tenant_id = f.tenant_id and f.activity_date >= windows.first_day and f.activity_date < windows.end_day

        union

        select windows.id, c.campaign_id
        from windows
        inner join {{ ref('stg_oltp__campaigns') }} as c
            on windows.tenant_id = c.tenant_id and c.started < windows.period_end
            and (
                (c.status = 'sending' and windows.period_end > {{ as_of() }})
                or (c.status = 'completed' and coalesce(c.completed, c.started) >= windows.period_start)
            )
    ) as used_campaigns
    group by used_campaigns.id

),

leads as (

    select windows.id, sum(l.leads) as used
    from windows
    inner join {{ ref('int_lead_days') }} as l
        on windows.tenant_id = l.tenant_id and l.created_date < windows.end_day
    group by windows.id

),

warmups as (

    select windows.id, count(*) as used
    from windows
    inner join {{ ref('stg_oltp__warmup_schedules') }} as s
        on windows.tenant_id = s.tenant_id and s.status in ('pending', 'active', 'paused')
    where windows.is_open
    group by windows.id

)

select
    windows.tenant_id,
    windows.subscription_id,
    contracts.plan_id,
    plans.slug as plan_slug,
    coalesce(emails.used, 0)::integer as emails_sent,
    coalesce(mailboxes.used, 0)::integer as mailboxes_used,
    coalesce(domains.used, 0)::integer as domains_used,
    coalesce(campaigns.used, 0)::integer as campaigns_used,
    coalesce(leads.used, 0)::integer as leads_used,
    case when windows.is_open then coalesce(warmups.used, 0)::integer else windows.warmups_active end as warmups_active,
    case when windows.is_open then coalesce(storage.storage_bytes, 0) else windows.storage_bytes_used end as storage_bytes_used,
    (plans.max_emails_per_month + coalesce(addons.extra_emails, 0) * {{ var('extra_emails_per_unit') }})::integer as limit_emails,
    plans.max_email_accounts as limit_mailboxes,
    plans.max_domains as limit_domains,
    plans.max_campaigns_per_month as limit_campaigns,
    plans.max_contacts as limit_leads,
    plans.max_warmups as limit_warmups,
    plans.max_storage_gb as limit_storage_gb,
    -- The price of its time for a window that is over; a custom plan has only what Stripe books.
    ({{ paid_cents('contracts.status', "case
        when not windows.is_open and contracts.booked_mrr_cents is not null then contracts.booked_mrr_cents
        else coalesce(" ~ list_price('contracts.billing_interval', 'plans') ~ " + coalesce(addons.cents, 0), contracts.booked_mrr_cents, 0)
    end") }})::bigint as mrr_cents,
    contracts.status as subscription_status,
    windows.period_start,
    windows.period_end,
    windows.period_end + interval '{{ var("window_close_days") }} days' <= {{ as_of() }} as is_final
from windows
inner join contracts on windows.id = contracts.id
left join {{ ref('stg_oltp__plans') }} as plans on contracts.plan_id = plans.plan_id
left join addons on windows.id = addons.id
left join emails on windows.id = emails.id
left join mailboxes on windows.id = mailboxes.id
left join domains on windows.id = domains.id
left join campaigns on windows.id = campaigns.id
left join leads on windows.id = leads.id
left join warmups on windows.id = warmups.id
left join {{ ref('int_tenant_storage') }} as storage on windows.tenant_id = storage.tenant_id
