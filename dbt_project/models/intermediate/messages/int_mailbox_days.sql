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

)

select
    tenant_id,
    mailbox_id,
    activity_date,
    mode() within group (order by company_id) as company_id,
    mode() within group (order by domain_id) as domain_id,
    {{ message_counters(only='not is_warmup') }},
    count(*)::integer as current_volume,
    array_agg(distinct campaign_id) filter (where campaign_id is not null and not is_warmup) as campaign_ids
from messages
group by tenant_id, mailbox_id, activity_date
