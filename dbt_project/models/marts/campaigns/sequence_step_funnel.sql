{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

-- Life time of each step, email steps only, in the order of the sequence. Mail without a step has no place in a funnel.
with totals as (

    select
        tenant_id,
        campaign_id,
        step_id,
        {{ message_counters() }},
        bool_and(is_final) as is_final
    from {{ ref('sequence_step_analytics') }}
    where step_id <> {{ nobody() }}
    group by tenant_id, campaign_id, step_id

),

ordered as (

    select
        totals.*,
        steps.step_order,
        steps.template_name,
        first_value(totals.sent) over funnel as sent_of_first,
        lag(totals.sent) over funnel as sent_before,
        lag(totals.delivered) over funnel as delivered_before
    from totals
    left join {{ ref('dim_sequence_steps') }} as steps
        on totals.tenant_id = steps.tenant_id and totals.step_id = steps.step_id
    where coalesce(steps.step_type, 'email') = 'email'
    window funnel as (partition by totals.tenant_id, totals.campaign_id order by steps.step_order, totals.step_id)

)

select
    tenant_id,
    campaign_id,
    step_id,
    step_order,
    template_name,
    {{ counters() }},
    {{ rate('sent', 'sent_of_first') }} as retention_from_first,
    {{ rate('greatest(sent_before - sent, 0)', 'sent_before') }} as dropoff_from_previous,
    {{ rate('sent', 'delivered_before') }} as conversion_from_previous,
    {{ rates() }},
    {{ rate('soft_bounced', 'sent') }} as soft_bounce_rate,
    is_final,
    {{ data_as_of() }} as data_as_of
from ordered
