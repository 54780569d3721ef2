{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'mailbox_id', 'activity_date', 'provider'],
    touched='touched_mailbox_days',
    touched_by=['tenant_id', 'mailbox_id', 'activity_date'],
    indexes=[{'columns': ['tenant_id', 'mailbox_id', 'activity_date', 'provider'], 'unique': true}]
) }}

with messages as (

    {{ messages_of(['tenant_id', 'mailbox_id', 'activity_date'], touched_mailbox_days) }}
    where not m.is_warmup

)

select
    m.tenant_id,
    m.mailbox_id,
    m.activity_date,
    coalesce(known.provider, 'other') as provider,
    mode() within group (order by m.company_id) as company_id,
    mode() within group (order by m.domain_id) as domain_id,
    {{ message_counters('m') }}
from messages as m
left join {{ ref('recipient_providers') }} as known on m.recipient_domain = known.domain
group by m.tenant_id, m.mailbox_id, m.activity_date, coalesce(known.provider, 'other')
