{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

with classes as (

    select tenant_id, campaign_id, step_id, kind, delay_class, sum(messages)::integer as messages
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
    {{ data_as_of() }} as data_as_of
from classes
window
    everything as (partition by tenant_id, campaign_id, step_id, kind),
    in_order as (partition by tenant_id, campaign_id, step_id, kind order by delay_class)
