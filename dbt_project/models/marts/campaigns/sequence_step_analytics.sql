{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'step_id', 'campaign_id', 'activity_date'],
    touched='touched_step_days',
    partition_date='activity_date'
) }}

-- depends_on: {{ ref('int_usage_windows') }}
with messages as (

    select m.*
    from {{ ref('int_messages') }} as m
    {%- if not is_full_build() %}
    inner join ({{ touched_step_days() }}) as touched
        on m.tenant_id = touched.tenant_id and m.campaign_id = touched.campaign_id
        and m.step_id = touched.step_id and m.activity_date = touched.activity_date
    {%- endif %}
    where m.campaign_id is not null and not m.is_warmup and m.activity_date >= {{ online_from() }}

),

days as (

    select
        tenant_id,
        campaign_id,
        step_id,
        activity_date,
        -- The workspace of most messages; of several the smallest id.
        mode() within group (order by company_id) as company_id,
        {{ message_counters() }}
    from messages
    group by tenant_id, campaign_id, step_id, activity_date

)

select
    days.tenant_id,
    days.company_id,
    days.campaign_id,
    days.step_id,
    steps.step_order,
    days.activity_date,
    {{ counters('days') }},
    {{ billing_id('days') }} as billing_id,
    {{ is_final('days.activity_date') }} as is_final
from days
left join {{ ref('stg_oltp__campaign_sequence_steps') }} as steps
    on days.tenant_id = steps.tenant_id and days.step_id = steps.step_id
