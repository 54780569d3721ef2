{{ config(
    materialized='table',
    indexes=[{'columns': ['tenant_id', 'campaign_id', 'event_hour']}],
    post_hook='analyze {{ this }}'
) }}

{%- set messages = earlier('intermediate', 'int_messages') %}
{%- set events = earlier('intermediate', 'int_engagement_events') %}
{%- set unfinished = earlier('intermediate', 'int_touched_hours') %}

-- Hours in which the messages to recompute had events until now, read before the events are computed anew: an event that
-- moves to another hour, campaign or class must not stay behind in its old one.
{%- if messages is not none and events is not none %}
select e.tenant_id, e.campaign_id, date_trunc('hour', e.occurred) as event_hour
from ({{ touched_engagement() }}) as touched
inner join {{ events }} as e on touched.tenant_id = e.tenant_id and touched.storage_key = e.storage_key
where e.campaign_id is not null and e.is_counted
union
select m.tenant_id, m.campaign_id, date_trunc('hour', m.replied_time)
from ({{ touched_replies() }}) as touched
inner join {{ messages }} as m on touched.tenant_id = m.tenant_id and touched.storage_key = m.storage_key
where m.campaign_id is not null and m.replied_time is not null
{%- else %}
select tenant_id, campaign_id, null::timestamptz as event_hour
from {{ ref('int_touched_messages') }}
where false
{%- endif %}
{%- if unfinished is not none %}
-- Of a build that died, as in int_touched_messages.
union
select tenant_id, campaign_id, event_hour from {{ unfinished }}
{%- endif %}
