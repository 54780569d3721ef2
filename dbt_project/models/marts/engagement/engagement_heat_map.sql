{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

-- When people act: events by weekday and hour of the viewer.
select
    tenant_id,
    campaign_id,
    extract(dow from event_hour at time zone {{ viewer_zone() }})::smallint as weekday,
    extract(hour from event_hour at time zone {{ viewer_zone() }})::smallint as hour,
    {{ viewer_zone() }} as time_zone,
    sum(opens)::integer as opens,
    sum(clicks)::integer as clicks,
    sum(replies)::integer as replies,
    {{ data_as_of() }} as data_as_of,
    {{ is_final_as_of(utc_date('max(event_hour)'), data_as_of()) }} as is_final
from {{ ref('campaign_engagement_hourly') }}
group by tenant_id, campaign_id, weekday, hour
