{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'campaign_id', 'activity_date', 'send_hour'],
    touched='touched_campaign_send_days',
    touched_by=['tenant_id', 'campaign_id', 'activity_date'],
    indexes=[{'columns': ['tenant_id', 'campaign_id', 'activity_date', 'send_hour'], 'unique': true}]
) }}

{% call summed_messages(
    ['tenant_id', 'campaign_id', 'activity_date'], touched_campaign_send_days,
    where='m.campaign_id is not null and not m.is_warmup',
    by={'send_hour': "extract(hour from m.sent_time at time zone 'UTC')::smallint"}
) -%}
    {{ message_counters('m') }}
{%- endcall %}
