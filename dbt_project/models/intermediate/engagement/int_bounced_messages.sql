{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'storage_key'],
    touched='touched_messages',
    indexes=[
        {'columns': ['tenant_id', 'storage_key'], 'unique': true},
        {'columns': ['tenant_id', 'mailbox_id', 'activity_date']}
    ]
) }}

{%- set full = is_full_build() %}

-- Messages whose outcome is a bounce, with the report that decided it: the last one, of several at the same time the hard one.
select distinct on (m.tenant_id, m.storage_key)
    m.tenant_id,
    m.storage_key,
    m.company_id,
    m.mailbox_id,
    m.domain_id,
    m.campaign_id,
    m.activity_date,
    m.bounced_time,
    m.hard_bounced,
    b.status_code,
    coalesce(b.permanence, case when m.hard_bounced = 1 then 'permanent' else 'temporary' end) as permanence,
    coalesce(b.subject, 'other') as subject,
    coalesce(b.fault, 'way') as fault,
    {{ var('bounce_rule_version') }}::smallint as rule_version
from ({{ of_touched_messages('int_messages', full) }}) as m
left join {{ ref('int_bounces') }} as b
    on m.tenant_id = b.tenant_id and m.storage_key = b.storage_key and m.bounced_time = b.bounced
where m.bounced = 1 and not m.is_warmup
order by m.tenant_id, m.storage_key, (b.bounce_type = 'hard') desc nulls last, b.event_key
