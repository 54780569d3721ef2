{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'mailbox_id', 'activity_date'],
    touched='touched_mailbox_days',
    indexes=[{'columns': ['tenant_id', 'mailbox_id', 'activity_date'], 'unique': true}]
) }}

with messages as (

    {{ messages_of(['tenant_id', 'mailbox_id', 'activity_date'], touched_mailbox_days) }}
    where m.is_warmup

)

select
    tenant_id,
    mailbox_id,
    activity_date,
    mode() within group (order by company_id) as company_id,
    {{ message_counters() }}
from messages
group by tenant_id, mailbox_id, activity_date
