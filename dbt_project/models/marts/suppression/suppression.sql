{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'recipient_pseudonym'],
    touched='touched_recipients'
) }}

{%- set full = is_full_build() %}

with {% if not full -%}
touched as (

    {{ touched_keys(touched_recipients) }}

),

{% endif -%}
signals as (

    select s.*
    from {{ ref('int_recipient_signals') }} as s
    {%- if not full %}
    inner join touched on s.tenant_id = touched.tenant_id and s.recipient_pseudonym = touched.recipient_pseudonym
    {%- endif %}

),

-- Temporary reports, not the sender's fault, of messages that stayed bounced; a later delivery has cleared the others. Also a
-- hard report whose code says that it is temporary, and a bounce that only the trace knows.
soft as (

    select signals.tenant_id, signals.recipient_pseudonym, signals.storage_key, signals.lead_id, coalesce(b.bounced, signals.bounced_time) as occurred
    from signals
    left join {{ ref('int_bounces') }} as b on signals.tenant_id = b.tenant_id and signals.storage_key = b.storage_key
    where signals.bounced_time is not null
        and coalesce(b.fault, signals.fault) <> 'sender'
        and not (coalesce(b.bounce_type = 'hard', signals.hard_bounced = 1) and coalesce(b.permanence, signals.permanence) = 'permanent')

),

-- Only who has enough of them can have enough in a row; the mail between them is looked up for these alone.
suspects as (

    select tenant_id, recipient_pseudonym
    from soft
    group by tenant_id, recipient_pseudonym
    having count(*) >= {{ var('soft_bounce_limit') }}

),

history as (

    select soft.tenant_id, soft.recipient_pseudonym, soft.storage_key, soft.occurred, true as is_soft
    from soft
    inner join suspects on soft.tenant_id = suspects.tenant_id and soft.recipient_pseudonym = suspects.recipient_pseudonym

    union all

    select signals.tenant_id, signals.recipient_pseudonym, signals.storage_key, signals.delivered_time, false
    from signals
    inner join suspects on signals.tenant_id = suspects.tenant_id and signals.recipient_pseudonym = suspects.recipient_pseudonym
    where signals.delivered_time is not null

    union all

    select m.tenant_id, known.recipient_pseudonym, m.storage_key, m.delivered_time, false
    from (
        select distinct soft.tenant_id, soft.recipient_pseudonym, soft.lead_id
        from soft
        inner join suspects on soft.tenant_id = suspects.tenant_id and soft.recipient_pseudonym = suspects.recipient_pseudonym
        where soft.lead_id is not null
    ) as known
    inner join {{ ref('int_messages') }} as m on known.tenant_id = m.tenant_id and known.lead_id = m.lead_id
    where m.delivered_time is not null and not m.is_warmup

),

-- A delivery begins a new row of bounces.
runs as (

    select *, count(*) filter (where not is_soft) over (
        partition by tenant_id, recipient_pseudonym order by occurred, is_soft, storage_key
    ) as run
    from history

),

counted as (

    select *, row_number() over (partition by tenant_id, recipient_pseudonym, run order by occurred, storage_key) as number
    from runs
    where is_soft

),

causes as (

    select tenant_id, recipient_pseudonym, 'hard_bounce' as reason, bounced_time as suppressed, storage_key
    from signals
    where hard_bounced = 1 and permanence = 'permanent' and fault <> 'sender'
    union all
    select tenant_id, recipient_pseudonym, 'soft_bounce_limit', occurred, storage_key
    from counted
    where number = {{ var('soft_bounce_limit') }}
    union all
    select tenant_id, recipient_pseudonym, 'spam_complaint', complained_time, storage_key
    from signals
    where complained_time is not null
    union all
    select tenant_id, recipient_pseudonym, 'unsubscribe', unsubscribed_time, storage_key
    from signals
    where unsubscribed_time is not null

),

firsts as (

    select distinct on (causes.tenant_id, causes.recipient_pseudonym)
        causes.*, signals.recipient_domain, signals.lead_id,
        case when causes.reason in ('hard_bounce', 'soft_bounce_limit') then signals.status_code end as status_code
    from causes
    inner join signals on causes.tenant_id = signals.tenant_id and causes.storage_key = signals.storage_key
    order by causes.tenant_id, causes.recipient_pseudonym, causes.suppressed, causes.reason, causes.storage_key

),

-- The list of the application: the entry that lasts longest, then the oldest.
listed as (

    select distinct on (l.tenant_id, l.recipient_pseudonym)
        l.tenant_id, l.recipient_pseudonym, l.reason, l.created, l.expires
    from {{ ref('stg_oltp__suppression_list') }} as l
    {%- if not full %}
    inner join touched on l.tenant_id = touched.tenant_id and l.recipient_pseudonym = touched.recipient_pseudonym
    {%- endif %}
    where l.tenant_id is not null
    order by l.tenant_id, l.recipient_pseudonym, l.expires desc nulls first, l.created, l.suppression_id

),

joined as (

    select
        coalesce(firsts.tenant_id, listed.tenant_id) as tenant_id,
        coalesce(firsts.recipient_pseudonym, listed.recipient_pseudonym) as recipient_pseudonym,
        firsts.recipient_domain,
        firsts.lead_id,
        coalesce(firsts.reason, listed.reason) as reason,
        case when firsts.reason is not null then 'event' else 'list' end as source,
        coalesce(firsts.suppressed, listed.created) as suppressed,
        firsts.storage_key,
        firsts.status_code,
        listed.reason as listed_reason,
        listed.created as listed,
        listed.expires
    from firsts
    full join listed on firsts.tenant_id = listed.tenant_id and firsts.recipient_pseudonym = listed.recipient_pseudonym

)

select
    joined.tenant_id,
    joined.recipient_pseudonym,
    joined.recipient_domain,
    joined.lead_id,
    joined.reason,
    joined.source,
    joined.suppressed,
    joined.storage_key,
    joined.status_code,
    {{ var('bounce_rule_version') }}::smallint as rule_version,
    -- The list of the whole platform is read once: a look for each address would read it as often.
    joined.listed is not null or joined.recipient_pseudonym in (
        select recipient_pseudonym
        from {{ ref('stg_oltp__suppression_list') }}
        where tenant_id is null and recipient_pseudonym is not null
    ) as is_listed,
    joined.listed,
    joined.listed_reason,
    joined.expires
from joined
