{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

-- Which hour to send in: results of the messages by weekday and hour of their sending, in the zone of the viewer.
with hours as (

    select
        *,
        ({{ utc_start('activity_date') }} + make_interval(hours => send_hour)) at time zone {{ viewer_zone() }} as sent_locally
    from {{ ref('int_send_hours') }}

),

sums as (

    select
        tenant_id,
        campaign_id,
        extract(dow from sent_locally)::smallint as weekday,
        extract(hour from sent_locally)::smallint as hour,
        {{ message_counters() }},
        max(activity_date) as last_day
    from hours
    group by tenant_id, campaign_id, weekday, hour

)

select
    tenant_id,
    campaign_id,
    weekday,
    hour,
    {{ viewer_zone() }} as time_zone,
    {{ counters() }},
    {{ rates() }},
    {{ wilson('low', 'replied', 'delivered') }} as reply_rate_low,
    {{ wilson('high', 'replied', 'delivered') }} as reply_rate_high,
    delivered >= {{ var('comparison_minimum') }} as has_minimum_sample,
    {{ data_as_of() }} as data_as_of,
    {{ is_final_as_of('last_day', data_as_of()) }} as is_final
from sums
