{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'mailbox_id', 'activity_date'],
    touched='touched_warmups',
    partition_date='activity_date',
    frozen_columns=['schedule_type', 'warmup_status', 'current_day', 'total_days', 'planned_volume', 'progress_percentage']
) }}

{%- set full = is_full_build() %}

-- depends_on: {{ ref('int_usage_windows') }}
with {% if not full -%}
touched as (

    {{ touched_keys(touched_warmups) }}

),

wanted as (

    {{ with_days_before(6) }}

),

{% endif -%}
days as (

    select d.*, {{ 'true' if full else 'wanted.is_touched' }} as is_touched
    from {{ ref('int_warmup_days') }} as d
    {%- if not full %}
    inner join wanted
        on d.tenant_id = wanted.tenant_id and d.mailbox_id = wanted.mailbox_id
        and d.activity_date = wanted.activity_date
    {%- endif %}

),

weeks as (

    select
        *,
        count(*) over week as days_7,
        sum(sent) over week as sent_7,
        sum(delivered) over week as delivered_7,
        sum(opened_tracked) over week as opened_7,
        sum(clicked_tracked) over week as clicked_7,
        sum(bounced) over week as bounced_7,
        sum(spam_complaints) over week as spam_complaints_7
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

-- The plan that had begun by the day, as it stood then as far as its start and end tell: a plan cannot be further than
-- its days since the start.
planned as (

    select
        rows.*,
        plan.schedule_type,
        case when plan.completed > {{ utc_start('rows.activity_date + 1') }} then 'active' else plan.status end as status,
        greatest(0, least(plan.current_day, rows.activity_date - {{ utc_date('plan.started') }} + 1)) as current_day,
        plan.total_days,
        plan.start_volume,
        plan.target_volume
    from rows
    left join lateral (
        select p.*
        from {{ ref('stg_oltp__warmup_schedules') }} as p
        where p.tenant_id = rows.tenant_id and p.mailbox_id = rows.mailbox_id
            and coalesce(p.started, p.created) < {{ utc_start('rows.activity_date + 1') }}
        order by coalesce(p.started, p.created) desc, p.schedule_id
        limit 1
    ) as plan on true

)

select
    planned.tenant_id,
    planned.company_id,
    planned.mailbox_id,
    planned.activity_date,
    {{ counters('planned') }},
    planned.schedule_type,
    planned.status as warmup_status,
    planned.current_day,
    planned.total_days,
    {{ planned_volume('planned.current_day', 'planned.total_days', 'planned.start_volume', 'planned.target_volume') }} as planned_volume,
    {{ warmup_health(
        'planned.days_7', 'planned.sent_7', 'planned.delivered_7', 'planned.opened_7', 'planned.clicked_7', 'planned.bounced_7',
        'planned.spam_complaints_7') }} as health_score,
    coalesce(least(100, greatest(0, round(100.0 * planned.current_day / nullif(planned.total_days, 0)))), 0)::smallint as progress_percentage,
    {{ billing_id('planned') }} as billing_id,
    {{ is_final('planned.activity_date') }} as is_final
from planned
