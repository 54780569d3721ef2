{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'storage_key'],
    touched='touched_messages',
    indexes=[
        {'columns': ['tenant_id', 'storage_key'], 'unique': true},
        {'columns': ['tenant_id', 'mailbox_id', 'activity_date']},
        {'columns': ['tenant_id', 'mailbox_id', 'domain_id', 'company_id']}
    ],
    post_hook=[
        'create index if not exists int_messages_by_campaign_day on {{ this }} (tenant_id, campaign_id, activity_date, step_id)',
        'create index if not exists int_messages_undecided on {{ this }} (sent_time) where delivered = 0 and bounced = 0 and failed_time is null',
        'create index if not exists int_messages_by_lead on {{ this }} (tenant_id, lead_id, campaign_id) where lead_id is not null',
        'create index if not exists int_messages_by_reply_hour on {{ this }} (tenant_id, campaign_id, replied_time) where replied_time is not null and campaign_id is not null',
        'create index if not exists int_messages_one_to_one on {{ this }} (tenant_id, activity_date) where campaign_id is null and not is_warmup',
        "create index if not exists int_messages_by_address on {{ this }} (tenant_id, coalesce(smtp_ip_address_id, '00000000-0000-0000-0000-000000000000'::uuid), activity_date)"
    ]
) }}

{%- set full = is_full_build() %}

with messages as (

    select m.*
    from {{ ref('stg_content__email_messages') }} as m
    {%- if not full %}
    inner join ({{ touched_keys(touched_messages) }}) as touched
        on m.tenant_id = touched.tenant_id and m.storage_key = touched.storage_key
    {%- endif %}
    where m.direction = 'outbound' and m.message_type = 'email' and isfinite(m.sent)

),

engagement as (

    select
        tenant_id,
        storage_key,
        min(occurred) filter (where kind = 'open' and class <> 'machine') as opened,
        min(occurred) filter (where kind = 'click' and class <> 'machine') as clicked,
        max(occurred) filter (where class <> 'machine') as last_event,
        count(*) filter (where kind = 'open') as open_events,
        count(*) filter (where kind = 'click') as click_events,
        count(*) filter (where kind = 'open' and is_counted) as opens_total,
        count(*) filter (where kind = 'click' and is_counted) as clicks_total,
        coalesce(bool_or(class = 'machine') filter (where kind = 'open'), false) as opened_machine,
        coalesce(bool_or(class = 'machine') filter (where kind = 'click'), false) as clicked_machine
    from ({{ of_touched_messages('int_engagement_events', full) }}) as e
    group by tenant_id, storage_key

),

replies as (

    select tenant_id, storage_key, min(replied) as replied
    from ({{ of_touched_messages('stg_content__email_replies', full) }}) as e
    where not is_auto_reply
    group by tenant_id, storage_key

),

-- What partner mailboxes do with warmup mail; ordinary mail has none.
warmups as (

    select
        e.tenant_id,
        e.storage_key,
        min(e.interacted) filter (where e.interaction_type = 'open') as opened,
        min(e.interacted) filter (where e.interaction_type = 'click') as clicked,
        min(e.interacted) filter (where e.interaction_type = 'reply') as replied,
        count(*) filter (where e.interaction_type = 'open') as opens_total,
        count(*) filter (where e.interaction_type = 'click') as clicks_total
    from {% if full %}{{ ref('stg_content__warmup_interactions') }} as e{% else %}messages
    cross join lateral (
        select * from {{ ref('stg_content__warmup_interactions') }} as e
        where e.tenant_id = messages.tenant_id and e.storage_key = messages.storage_key
        offset 0
    ) as e{% endif %}
    where {{ 'e.storage_key is not null' if full else 'messages.is_warmup' }}
    group by e.tenant_id, e.storage_key

),

unsubscribes as (

    select tenant_id, storage_key, min(unsubscribed) as unsubscribed
    from ({{ of_touched_messages('stg_content__email_unsubscribes', full) }}) as e
    group by tenant_id, storage_key

),

complaints as (

    select tenant_id, storage_key, min(complained) as complained
    from ({{ of_touched_messages('stg_content__email_complaints', full) }}) as e
    group by tenant_id, storage_key

),

-- The last report decides; of two at the same time the hard one.
bounces as (

    select distinct on (tenant_id, storage_key) tenant_id, storage_key, bounced, bounce_type
    from (
        select tenant_id, storage_key, bounced, bounce_type from ({{ of_touched_messages('stg_content__email_bounces', full) }}) as e
        union all
        select tenant_id, storage_key, bounced, bounce_type from messages where bounced is not null
    ) as reports
    order by tenant_id, storage_key, bounced desc, bounce_type

),

milestones as (

    select
        messages.tenant_id,
        messages.storage_key,
        messages.campaign_id,
        messages.step_id,
        messages.mailbox_id,
        messages.lead_id,
        messages.smtp_ip_address_id,
        messages.recipient_domain,
        messages.is_warmup,
        messages.sent,
        messages.failed,
        messages.delivered as confirmed,
        -- A click without an open opens.
        least(messages.opened, engagement.opened, warmups.opened, messages.clicked, engagement.clicked, warmups.clicked) as opened,
        least(messages.clicked, engagement.clicked, warmups.clicked) as clicked,
        engagement.last_event,
        least(messages.replied, replies.replied, warmups.replied) as replied,
        least(messages.unsubscribed, unsubscribes.unsubscribed) as unsubscribed,
        least(messages.complained, complaints.complained) as complained,
        bounces.bounced,
        bounces.bounce_type,
        -- The application's own counts stand in where no event is kept.
        case when engagement.open_events > 0 then engagement.opens_total else coalesce(nullif(warmups.opens_total, 0), messages.open_count) end as opens_total,
        case when engagement.click_events > 0 then engagement.clicks_total else coalesce(nullif(warmups.clicks_total, 0), messages.click_count) end as clicks_total,
        coalesce(engagement.opened_machine, false) as opened_machine,
        coalesce(engagement.clicked_machine, false) as clicked_machine
    from messages
    left join engagement on messages.tenant_id = engagement.tenant_id and messages.storage_key = engagement.storage_key
    left join warmups
        on messages.is_warmup and messages.tenant_id = warmups.tenant_id and messages.storage_key = warmups.storage_key
    left join replies on messages.tenant_id = replies.tenant_id and messages.storage_key = replies.storage_key
    left join unsubscribes on messages.tenant_id = unsubscribes.tenant_id and messages.storage_key = unsubscribes.storage_key
    left join complaints on messages.tenant_id = complaints.tenant_id and messages.storage_key = complaints.storage_key
    left join bounces on messages.tenant_id = bounces.tenant_id and messages.storage_key = bounces.storage_key

),

engaged as (

    select *, least(opened, clicked, replied, unsubscribed, complained) as engaged
    from milestones

),

decided as (

    select
        *,
        case
            when engaged is not null and confirmed is null then 'implied_by_engagement'
            when engaged is not null then 'trace'
            when bounced >= coalesce(confirmed, bounced) then null
            when confirmed is not null then 'trace'
            when failed is null and sent + interval '{{ var("silence_hours") }} hours' <= {{ as_of() }} then 'implied_by_silence'
        end as delivery_basis,
        engaged is null and bounced is not null and bounced >= coalesce(confirmed, bounced) as is_bounced
    from engaged

)

select
    decided.tenant_id,
    decided.storage_key,
    {{ utc_date('decided.sent') }} as activity_date,
    coalesce(mailboxes.company_id, {{ nobody() }}) as company_id,
    coalesce(mailboxes.domain_id, {{ nobody() }}) as domain_id,
    coalesce(decided.mailbox_id, {{ nobody() }}) as mailbox_id,
    decided.campaign_id,
    coalesce(decided.step_id, {{ nobody() }}) as step_id,
    decided.lead_id,
    decided.smtp_ip_address_id,
    decided.recipient_domain,
    decided.is_warmup,
    decided.sent as sent_time,
    case decided.delivery_basis
        when 'trace' then decided.confirmed
        when 'implied_by_engagement' then decided.engaged
        when 'implied_by_silence' then decided.sent
    end as delivered_time,
    decided.delivery_basis,
    decided.opened as opened_time,
    decided.clicked as clicked_time,
    decided.last_event as last_event_time,
    decided.replied as replied_time,
    decided.unsubscribed as unsubscribed_time,
    decided.complained as complained_time,
    case when decided.is_bounced then decided.bounced end as bounced_time,
    case when decided.is_bounced then decided.bounce_type end::varchar(10) as bounce_type,
    decided.failed as failed_time,
    (decided.bounced is not null and not decided.is_bounced and decided.engaged is not null) as ignored_bounce,
    1::smallint as sent,
    (decided.delivery_basis is not null)::integer::smallint as delivered,
    (decided.opened is not null)::integer::smallint as opened_tracked,
    (decided.clicked is not null)::integer::smallint as clicked_tracked,
    (decided.replied is not null)::integer::smallint as replied,
    decided.is_bounced::integer::smallint as bounced,
    (decided.is_bounced and decided.bounce_type = 'hard')::integer::smallint as hard_bounced,
    (decided.is_bounced and decided.bounce_type <> 'hard')::integer::smallint as soft_bounced,
    (decided.unsubscribed is not null)::integer::smallint as unsubscribed,
    (decided.complained is not null)::integer::smallint as spam_complaints,
    decided.opens_total::integer as opens_total,
    decided.clicks_total::integer as clicks_total,
    decided.opened_machine::integer::smallint as opened_machine,
    decided.clicked_machine::integer::smallint as clicked_machine
from decided
left join {{ ref('int_mailboxes') }} as mailboxes
    on decided.tenant_id = mailboxes.tenant_id and decided.mailbox_id = mailboxes.mailbox_id
-- Neighbours by time lie together: what one build touches is mostly of the last days.
order by decided.tenant_id, decided.storage_key
