{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'campaign_id', 'event_hour', 'device_type', 'mail_client'],
    touched='touched_engagement_hours',
    touched_by=['tenant_id', 'campaign_id', 'event_hour'],
    partition_date='event_hour'
) }}

{%- set full = is_full_build() %}

-- What people and unknown clients did, by the hour in which they did it; each repeat counts that counts in the totals.
with {% if not full -%}
touched as (

    {{ touched_keys(touched_engagement_hours) }}

),

{% endif -%}
events as (

    select
        e.tenant_id, e.campaign_id, coalesce(mailboxes.company_id, {{ nobody() }}) as company_id,
        date_trunc('hour', e.occurred) as event_hour,
        coalesce(e.device_type, 'unknown') as device_type, coalesce(e.mail_client, 'unknown') as mail_client,
        (e.kind = 'open')::integer as opens, (e.kind = 'click')::integer as clicks, 0 as replies
    from {% if full %}{{ ref('int_engagement_events') }} as e{% else %}touched
    -- By index for each hour: a join over ranges may go through all that ever happened. The offset keeps it apart.
    cross join lateral (
        select * from {{ ref('int_engagement_events') }} as e
        where e.tenant_id = touched.tenant_id and e.campaign_id = touched.campaign_id
            and e.occurred >= touched.event_hour and e.occurred < touched.event_hour + interval '1 hour'
            and e.is_counted
        offset 0
    ) as e{% endif %}
    left join {{ ref('int_mailboxes') }} as mailboxes on e.tenant_id = mailboxes.tenant_id and e.mailbox_id = mailboxes.mailbox_id
    where e.is_counted and e.campaign_id is not null

),

replies as (

    select
        m.tenant_id, m.campaign_id, m.company_id, date_trunc('hour', m.replied_time) as event_hour,
        'unknown' as device_type, 'unknown' as mail_client,
        0 as opens, 0 as clicks, 1 as replies
    from {% if full %}{{ ref('int_messages') }} as m{% else %}touched
    cross join lateral (
        select * from {{ ref('int_messages') }} as m
        where m.tenant_id = touched.tenant_id and m.campaign_id = touched.campaign_id
            and m.replied_time >= touched.event_hour and m.replied_time < touched.event_hour + interval '1 hour'
        offset 0
    ) as m{% endif %}
    where m.campaign_id is not null and not m.is_warmup and m.replied_time is not null

),

happened as (

    select * from events
    union all
    select * from replies

)

select
    happened.tenant_id,
    -- The workspace of most events; of several the smallest id.
    mode() within group (order by happened.company_id) as company_id,
    happened.campaign_id,
    happened.event_hour,
    happened.device_type,
    happened.mail_client,
    sum(happened.opens)::integer as opens,
    sum(happened.clicks)::integer as clicks,
    sum(happened.replies)::integer as replies
from happened
where happened.event_hour >= {{ hours_from() }}
group by happened.tenant_id, happened.campaign_id, happened.event_hour, happened.device_type, happened.mail_client
-- The hours of a tenant lie together in the order of its index: whoever asks for them reads neighbours.
order by happened.tenant_id, happened.event_hour
