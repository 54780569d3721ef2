{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'campaign_id', 'activity_date', 'send_hour'],
    touched='touched_campaign_send_days',
    touched_by=['tenant_id', 'campaign_id', 'activity_date'],
    indexes=[{'columns': ['tenant_id', 'campaign_id', 'activity_date', 'send_hour'], 'unique': true}]
) }}

select
    m.tenant_id,
    m.campaign_id,
    m.activity_date,
    extract(hour from m.sent_time at time zone 'UTC')::smallint as send_hour,
    {{ message_counters('m') }}
from {{ ref('int_messages') }} as m
{%- if not is_full_build() %}
inner join ({{ touched_campaign_send_days() }}) as touched
    on m.tenant_id = touched.tenant_id and m.campaign_id = touched.campaign_id and m.activity_date = touched.activity_date
{%- endif %}
where m.campaign_id is not null and not m.is_warmup
group by m.tenant_id, m.campaign_id, m.activity_date, extract(hour from m.sent_time at time zone 'UTC')
