{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

-- Which step, and with it which template, does best. By the lower end of the interval, so that luck in a small sample does not
-- win; steps with too few messages have no rank.
with steps as (

    select
        *,
        delivered >= {{ var('comparison_minimum') }} as has_minimum_sample,
        {{ wilson('low', 'replied', 'delivered') }} as reply_rate_low,
        {{ wilson('high', 'replied', 'delivered') }} as reply_rate_high,
        {{ wilson('low', 'opened_tracked', 'delivered') }} as open_rate_low,
        {{ wilson('high', 'opened_tracked', 'delivered') }} as open_rate_high
    from {{ ref('sequence_step_funnel') }}

)

select
    tenant_id,
    campaign_id,
    step_id,
    step_order,
    template_name,
    sent,
    delivered,
    opened_tracked,
    replied,
    open_rate,
    open_rate_low,
    open_rate_high,
    reply_rate,
    reply_rate_low,
    reply_rate_high,
    has_minimum_sample,
    case when has_minimum_sample then rank() over (
        partition by tenant_id, campaign_id, has_minimum_sample order by reply_rate_low desc, open_rate_low desc
    )::integer end as rank_by_replies,
    case when has_minimum_sample then rank() over (
        partition by tenant_id, campaign_id, has_minimum_sample order by open_rate_low desc, reply_rate_low desc
    )::integer end as rank_by_opens,
    {{ data_as_of() }} as data_as_of,
    is_final
from steps
