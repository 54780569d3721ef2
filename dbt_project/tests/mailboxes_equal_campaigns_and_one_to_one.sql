-- Fails if, for a tenant and day, the mailboxes differ from the campaigns together with one-to-one mail.
{{ config(meta={'dagster': {'ref': {'name': 'mailbox_analytics'}}}) }}
with campaign_mail as (

    select f.tenant_id, f.activity_date, {{ counters('f') }}
    from {{ ref('campaign_analytics') }} as f
    where {{ touched_days_only('f') }}

),

one_to_one as (

    select m.tenant_id, m.activity_date, {{ counters('m') }}
    from {{ ref('int_messages') }} as m
    where m.campaign_id is null and not m.is_warmup
        and m.activity_date >= {{ online_from() }}
        and {{ touched_days_only('m') }}

),

messages as (

    select tenant_id, activity_date, {{ message_counters() }}
    from (select * from campaign_mail union all select * from one_to_one) as mail
    group by tenant_id, activity_date

),

mailboxes as (

    select f.tenant_id, f.activity_date, {{ message_counters('f') }}
    from {{ ref('mailbox_analytics') }} as f
    where {{ touched_days_only('f') }}
    group by f.tenant_id, f.activity_date

)

select
    coalesce(messages.tenant_id, mailboxes.tenant_id) as tenant_id,
    coalesce(messages.activity_date, mailboxes.activity_date) as activity_date
from messages
full join mailboxes on messages.tenant_id = mailboxes.tenant_id and messages.activity_date = mailboxes.activity_date
where {{ counters_differ('messages', 'mailboxes') }}
