{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'mailbox_id', 'activity_date'],
    touched='touched_mailboxes',
    partition_date='activity_date',
    frozen_columns=['warmup_status', 'warmup_progress', 'daily_limit', 'campaign_status']
) }}

{%- set full = is_full_build() %}

-- depends_on: {{ ref('int_usage_windows') }}
with {% if not full -%}
touched as (

    {{ touched_keys(touched_mailboxes) }}

),

wanted as (

    {{ with_days_before(13) }}

),

{% endif -%}
days as (

    select d.*, {{ 'true' if full else 'wanted.is_touched' }} as is_touched
    from {{ ref('int_mailbox_days') }} as d
    {%- if not full %}
    inner join wanted
        on d.tenant_id = wanted.tenant_id and d.mailbox_id = wanted.mailbox_id
        and d.activity_date = wanted.activity_date
    {%- endif %}

),

weeks as (

    select
        *,
        sum(sent) over week as sent_7,
        sum(delivered) over week as delivered_7,
        sum(hard_bounced) over week as hard_bounced_7,
        sum(spam_complaints) over week as spam_complaints_7,
        sum(unsubscribed) over week as unsubscribed_7,
        coalesce(sum(sent) over (
            partition by tenant_id, mailbox_id order by activity_date
            range between interval '13 days' preceding and interval '7 days' preceding
        ), 0) as sent_before
    from days
    window week as (
        partition by tenant_id, mailbox_id order by activity_date
        range between interval '6 days' preceding and current row
    )

),

rows as (

    select *
    from weeks
    where is_touched and activity_date >= {{ online_from() }}

),

-- The open plan of a mailbox, else its latest.
plans as (

    select distinct on (tenant_id, mailbox_id)
        tenant_id,
        mailbox_id,
        status,
        least(100, greatest(0, round(100.0 * current_day / nullif(total_days, 0))))::smallint as progress
    from {{ ref('stg_oltp__warmup_schedules') }}
    order by tenant_id, mailbox_id, (status <> 'completed') desc, created desc, schedule_id

)

select
    rows.tenant_id,
    rows.company_id,
    nullif(rows.domain_id, {{ nobody() }}) as domain_id,
    rows.mailbox_id,
    rows.activity_date,
    {{ counters('rows') }},
    plans.status as warmup_status,
    plans.progress as warmup_progress,
    {{ mailbox_health(
        'rows.sent_7', 'rows.delivered_7', 'rows.hard_bounced_7', 'rows.spam_complaints_7', 'rows.unsubscribed_7', 'rows.sent_before',
        "(coalesce(mailboxes.status, '') = 'suspended')") }} as health_score,
    rows.current_volume,
    mailboxes.daily_limit,
    -- The busiest state among the campaigns that used the mailbox on the day.
    (
        select campaigns.status
        from unnest(rows.campaign_ids) as used (campaign_id)
        cross join lateral (
            select c.status
            from {{ ref('stg_oltp__campaigns') }} as c
            where c.tenant_id = rows.tenant_id and c.campaign_id = used.campaign_id
            offset 0
        ) as campaigns
        order by array_position(array['sending', 'paused', 'scheduled', 'completed', 'draft'], campaigns.status::text)
        limit 1
    ) as campaign_status,
    {{ billing_id('rows') }} as billing_id,
    {{ is_final('rows.activity_date') }} as is_final
from rows
left join {{ ref('int_mailboxes') }} as mailboxes
    on rows.tenant_id = mailboxes.tenant_id and rows.mailbox_id = mailboxes.mailbox_id
left join plans on rows.tenant_id = plans.tenant_id and rows.mailbox_id = plans.mailbox_id
