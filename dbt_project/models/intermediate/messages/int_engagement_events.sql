{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'storage_key', 'kind', 'event_key'],
    touched='touched_engagement',
    touched_by=['tenant_id', 'storage_key'],
    indexes=[{'columns': ['tenant_id', 'storage_key', 'kind', 'event_key'], 'unique': true}],
    post_hook='create index if not exists int_engagement_events_by_hour on {{ this }} (tenant_id, campaign_id, occurred) where is_counted and campaign_id is not null'
) }}

-- depends_on: {{ ref('int_touched_hours') }}

{%- set full = is_full_build() %}

with messages as (

    select
        m.tenant_id, m.storage_key, case when not m.is_warmup then m.campaign_id end as campaign_id,
        coalesce(m.mailbox_id, {{ nobody() }}) as mailbox_id, coalesce(m.delivered, m.sent) as arrived
    from {{ ref('stg_content__email_messages') }} as m
    {%- if not full %}
    inner join ({{ touched_keys(touched_engagement) }}) as touched
        on m.tenant_id = touched.tenant_id and m.storage_key = touched.storage_key
    {%- endif %}
    where m.direction = 'outbound' and m.message_type = 'email' and isfinite(m.sent)

),

-- The same event may be reported twice; the earliest report counts.
opens as (

    select distinct on (messages.tenant_id, messages.storage_key, e.event_key)
        messages.tenant_id, messages.storage_key, messages.campaign_id, messages.mailbox_id, 'open' as kind, e.event_key, e.opened as occurred, messages.arrived,
        e.ip_address, e.user_agent, e.is_bot, null::text as link, e.device_type, e.mail_client
    from messages
    inner join {{ ref('stg_content__email_opens') }} as e
        on messages.tenant_id = e.tenant_id and messages.storage_key = e.storage_key
    order by messages.tenant_id, messages.storage_key, e.event_key, e.opened, e.event_id

),

clicks as (

    select distinct on (messages.tenant_id, messages.storage_key, e.event_key)
        messages.tenant_id, messages.storage_key, messages.campaign_id, messages.mailbox_id, 'click' as kind, e.event_key, e.clicked as occurred, messages.arrived,
        e.ip_address, e.user_agent, e.is_bot, e.link, e.device_type, null::varchar(50) as mail_client
    from messages
    inner join {{ ref('stg_content__email_clicks') }} as e
        on messages.tenant_id = e.tenant_id and messages.storage_key = e.storage_key
    order by messages.tenant_id, messages.storage_key, e.event_key, e.clicked, e.event_id

),

events as (

    select * from opens
    union all
    select * from clicks

),

agents as (

    select
        seen.user_agent,
        bool_or(known.kind = 'image_proxy') as is_proxy,
        bool_or(known.kind = 'scanner') as is_scanner
    from (select distinct user_agent from events where user_agent is not null) as seen
    inner join {{ ref('known_agents') }} as known
        on case known.comparison
            when 'equals' then lower(seen.user_agent) = lower(known.pattern)
            else position(lower(known.pattern) in lower(seen.user_agent)) > 0
        end
    group by seen.user_agent

),

-- A burst starts at a click that is followed by enough different links of its message in so short a time; every click
-- within that time after a start belongs to it. Windows, not joins: one sort, whatever the planner thinks.
followed as (

    select
        *,
        case when kind = 'click' then array_agg(link) over (
            partition by tenant_id, storage_key, kind order by occurred
            range between current row and interval '{{ var("burst_seconds") }} seconds' following
        ) end as links
    from events

),

starts as (

    select
        *,
        coalesce(cardinality(links), 0) >= {{ var('burst_links') }}
        and (select count(distinct followers.link) from unnest(links) as followers (link)) >= {{ var('burst_links') }} as starts_burst
    from followed

),

bursts as (

    select
        *,
        bool_or(starts_burst) over (
            partition by tenant_id, storage_key, kind order by occurred
            range between interval '{{ var("burst_seconds") }} seconds' preceding and current row
        ) as is_burst
    from starts

),

classified as (

    select
        bursts.*,
        case
            when bursts.is_bot then 'source'
            when agents.is_scanner then 'scanner'
            when agents.is_proxy and bursts.occurred <= bursts.arrived + interval '{{ var("proxy_seconds") }} seconds' then 'prefetch'
            when bursts.is_burst then 'burst'
            when agents.is_proxy then 'proxy'
            else 'none'
        end as rule
    from bursts
    left join agents on bursts.user_agent = agents.user_agent

),

classed as (

    select *, case rule when 'none' then 'human' when 'proxy' then 'unknown' else 'machine' end as class
    from classified

)

select
    tenant_id,
    storage_key,
    kind,
    event_key,
    campaign_id,
    mailbox_id,
    occurred,
    class,
    rule,
    {{ var('engagement_rule_version') }}::smallint as rule_version,
    class <> 'machine' and coalesce(
        occurred - lag(occurred) over (
            partition by tenant_id, storage_key, kind, ip_address, user_agent, class = 'machine'
            order by occurred, event_key
        ) > interval '{{ var("repeat_seconds") }} seconds', true
    ) as is_counted,
    device_type,
    mail_client
from classed
