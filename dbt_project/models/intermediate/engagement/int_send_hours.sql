{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'campaign_id', 'activity_date', 'send_hour'],
    touched='touched_campaign_send_days',
    touched_by=['tenant_id', 'campaign_id', 'activity_date'],
    indexes=[{'columns': ['tenant_id', 'campaign_id', 'activity_date', 'send_hour'], 'unique': true}]
) }}

with messages as (

    {{ messages_of(['tenant_id', 'campaign_id', 'activity_date'], touched_campaign_send_days) }}
    where m.campaign_id is not null and not m.is_warmup

)

select
    tenant_id,
    campaign_id,
    activity_date,
    extract(hour from sent_time at time zone 'UTC')::smallint as send_hour,
    {{ message_counters() }}
from messages
group by tenant_id, campaign_id, activity_date, extract(hour from sent_time at time zone 'UTC')
