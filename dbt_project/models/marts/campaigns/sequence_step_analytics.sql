{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'step_id', 'campaign_id', 'activity_date'],
    touched='touched_step_days',
    partition_date='activity_date'
) }}

-- depends_on: {{ ref('int_usage_windows') }}
with days as (

    {% call summed_messages(
        ['tenant_id', 'campaign_id', 'step_id', 'activity_date'], touched_step_days,
        where='m.campaign_id is not null and not m.is_warmup and m.activity_date >= ' ~ online_from()
    ) -%}
        -- The workspace of most messages; of several the smallest id.
        mode() within group (order by m.company_id) as company_id,
        {{ message_counters('m') }}
    {%- endcall %}

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
