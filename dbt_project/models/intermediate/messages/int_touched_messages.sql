{{ config(
    materialized='table',
    indexes=[{'columns': ['tenant_id', 'storage_key']}],
    post_hook='analyze {{ this }}'
) }}

{%- set messages = earlier('intermediate', 'int_messages') %}
{%- set unfinished = earlier('intermediate', 'int_touched_messages') %}

-- Every message that a slice names, with the keys it had, has in int_messages and will have: whatever moved is
-- recomputed on both sides. A change of a mailbox or domain names its messages only when it moves them.
with slices as (

    select * from {{ slices() }} as s

),

named as (

    select distinct tenant_id, storage_key
    from slices
    where kind = 'message' and storage_key is not null

),

mailboxes as (

    select mailboxes.tenant_id, mailboxes.mailbox_id, mailboxes.domain_id, mailboxes.company_id
    from {{ ref('int_mailboxes') }} as mailboxes
    where (mailboxes.tenant_id, mailboxes.mailbox_id) in (
        select tenant_id, entity_id from slices where cause = 'oltp.email_accounts'
    )

    union

    select mailboxes.tenant_id, mailboxes.mailbox_id, mailboxes.domain_id, mailboxes.company_id
    from {{ ref('int_mailboxes') }} as mailboxes
    where (mailboxes.tenant_id, mailboxes.domain_id) in (
        select tenant_id, entity_id from slices where cause = 'oltp.domains'
    )

),

{%- if messages is not none %}

-- Two probes of one index tell whether any message of the mailbox is booked elsewhere.
moved_mailboxes as (

    select tenant_id, mailbox_id
    from mailboxes
    where exists (
        select from {{ messages }} as m
        where m.tenant_id = mailboxes.tenant_id and m.mailbox_id = mailboxes.mailbox_id
            and (m.domain_id, m.company_id) < (mailboxes.domain_id, mailboxes.company_id)
    ) or exists (
        select from {{ messages }} as m
        where m.tenant_id = mailboxes.tenant_id and m.mailbox_id = mailboxes.mailbox_id
            and (m.domain_id, m.company_id) > (mailboxes.domain_id, mailboxes.company_id)
    )

),

-- In the order of the tables they are looked up in: pages that hold neighbours are read once.
touched as (

    select tenant_id, storage_key from named
    union
    select m.tenant_id, m.storage_key
    from {{ messages }} as m
    inner join moved_mailboxes on m.tenant_id = moved_mailboxes.tenant_id and m.mailbox_id = moved_mailboxes.mailbox_id
    order by tenant_id, storage_key

),

held as (

    select m.tenant_id, m.storage_key, m.activity_date, m.campaign_id, m.step_id, m.mailbox_id, m.lead_id,
        coalesce(m.smtp_ip_address_id, {{ nobody() }}) as smtp_ip_address_id,
        -- Its hours are booked elsewhere, though nothing happened in them.
        (m.tenant_id, m.mailbox_id) in (select tenant_id, mailbox_id from moved_mailboxes) as has_moved
    from touched
    inner join {{ messages }} as m on touched.tenant_id = m.tenant_id and touched.storage_key = m.storage_key

),

{%- else %}

touched as (

    select tenant_id, storage_key from named

),

{%- endif %}

coming as (

    select
        m.tenant_id, m.storage_key, {{ utc_date('m.sent') }} as activity_date, m.campaign_id,
        coalesce(m.step_id, {{ nobody() }}) as step_id, coalesce(m.mailbox_id, {{ nobody() }}) as mailbox_id, m.lead_id,
        coalesce(m.smtp_ip_address_id, {{ nobody() }}) as smtp_ip_address_id, false as has_moved
    from touched
    inner join {{ ref('stg_content__email_messages') }} as m
        on touched.tenant_id = m.tenant_id and touched.storage_key = m.storage_key
    where isfinite(m.sent)

),

written as (

    select
        tenant_id, storage_key, activity_date, campaign_id,
        coalesce(step_id, {{ nobody() }}) as step_id, coalesce(mailbox_id, {{ nobody() }}) as mailbox_id, lead_id,
        -- A slice does not say it; the message as it was built and as it is now does.
        null::uuid as smtp_ip_address_id,
        cause not in ({{ "'" ~ (other_events(['email_opens', 'email_clicks']) | join("', '")) ~ "'" }}) as may_change_engagement,
        cause not in ({{ "'" ~ (other_events(['email_replies', 'warmup_interactions']) | join("', '")) ~ "'" }}) as may_change_replies,
        cause not in ({{ "'" ~ (other_events(['email_bounces']) | join("', '")) ~ "'" }}) as may_change_bounces
    from slices
    where kind = 'message'

),

found as (

    select * from coming
    {%- if messages is not none %}
    union
    select * from held
    {%- endif %}
    {%- if unfinished is not none %}
    -- Of a build that died: it may have written what a message is now, and where it was before is known here alone.
    union
    select tenant_id, storage_key, activity_date, campaign_id, step_id, mailbox_id, lead_id, smtp_ip_address_id, false from {{ unfinished }}
    {%- endif %}

),

-- Mostly they all say the same: one row for each message, which every model after this one reads.
places as (

    select
        tenant_id, storage_key, activity_date, campaign_id, step_id, mailbox_id, lead_id,
        array_agg(smtp_ip_address_id) filter (where smtp_ip_address_id is not null) as smtp_ip_address_ids,
        bool_or(may_change_engagement) as may_change_engagement,
        bool_or(may_change_replies) as may_change_replies,
        bool_or(may_change_bounces) as may_change_bounces
    from (
        -- What the slices of a build that died say, they say again.
        select
            tenant_id, storage_key, activity_date, campaign_id, step_id, mailbox_id, lead_id, smtp_ip_address_id,
            has_moved as may_change_engagement, has_moved as may_change_replies, false as may_change_bounces
        from found
        union all
        select * from written
    ) as named_or_found
    group by tenant_id, storage_key, activity_date, campaign_id, step_id, mailbox_id, lead_id

)

select
    tenant_id, storage_key, activity_date, campaign_id, step_id, mailbox_id, lead_id,
    unnest(coalesce(smtp_ip_address_ids, array[null::uuid])) as smtp_ip_address_id,
    may_change_engagement,
    may_change_replies,
    may_change_bounces
from places
order by tenant_id, storage_key
