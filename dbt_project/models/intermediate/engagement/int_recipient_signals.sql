{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'storage_key'],
    touched='touched_messages',
    indexes=[
        {'columns': ['tenant_id', 'storage_key'], 'unique': true},
        {'columns': ['tenant_id', 'recipient_pseudonym']}
    ]
) }}

{%- set full = is_full_build() %}

-- What speaks against mailing a recipient: bounces, complaints, unsubscribes. Mail to people who are no leads is here whatever
-- became of it; that of leads is found by its lead.
select
    m.tenant_id,
    m.storage_key,
    trace.to_email as recipient_pseudonym,
    m.recipient_domain,
    m.lead_id,
    m.delivered_time,
    m.hard_bounced,
    m.bounced_time,
    b.status_code,
    b.permanence,
    b.fault,
    m.complained_time,
    m.unsubscribed_time
from ({{ of_touched_messages('int_messages', full) }}) as m
inner join {{ source('content', 'email_messages') }} as trace
    on m.tenant_id = trace.tenant_id and m.storage_key = trace.storage_key
left join {{ ref('int_bounced_messages') }} as b on m.tenant_id = b.tenant_id and m.storage_key = b.storage_key
where not m.is_warmup and trace.to_email is not null
    and (m.lead_id is null or m.bounced = 1 or m.complained_time is not null or m.unsubscribed_time is not null)
