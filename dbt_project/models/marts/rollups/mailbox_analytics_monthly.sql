{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'mailbox_id', 'month'],
    touched='touched_mailbox_months',
    online_date='month',
    meta={'owner': 'data platform', 'dagster': {'group': 'mailboxes'}}
) }}

with days as (

    {{ days_of_months('mailbox_analytics', ['tenant_id', 'mailbox_id'], touched_mailbox_months()) }}

)

select
    tenant_id,
    (array_agg(company_id order by activity_date desc))[1] as company_id,
    (array_agg(domain_id order by activity_date desc))[1] as domain_id,
    mailbox_id,
    month,
    {{ message_counters() }},
    count(*)::integer as active_days,
    sum(current_volume)::integer as volume,
    (array_agg(health_score order by activity_date desc) filter (where health_score is not null))[1] as health_score,
    {{ is_final(last_day_of('month')) }} as is_final
from days
group by tenant_id, mailbox_id, month
