{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

with classes as (

    select tenant_id, campaign_id, step_id, kind, delay_class, sum(messages)::integer as messages, max(activity_date) as last_day
    from {{ ref('int_response_times') }}
    group by tenant_id, campaign_id, step_id, kind, delay_class

)

select
    tenant_id,
    campaign_id,
    step_id,
    kind,
    delay_class,
    {{ delay_from('delay_class') }} as from_seconds,
    {{ delay_to('delay_class') }} as to_seconds,
    messages,
    (sum(messages) over in_order)::integer as messages_so_far,
    {{ rate('sum(messages) over in_order', 'sum(messages) over everything') }} as percent_so_far,
    {{ data_as_of() }} as data_as_of,
    {{ is_final_as_of('max(last_day) over everything', data_as_of()) }} as is_final
from classes
window
    everything as (partition by tenant_id, campaign_id, step_id, kind),
    in_order as (partition by tenant_id, campaign_id, step_id, kind order by delay_class)
