-- Fails if, for a tenant and day, the mail by sending address differs from the mail by mailbox.
{{ config(meta={'dagster': {'ref': {'name': 'infrastructure_analytics'}}}) }}
with addresses as (

    select f.tenant_id, f.activity_date, {{ message_counters('f') }}
    from {{ ref('infrastructure_analytics') }} as f
    where f.tenant_id is not null and {{ touched_days_only('f') }}
    group by f.tenant_id, f.activity_date

),

mailboxes as (

    select f.tenant_id, f.activity_date, {{ message_counters('f') }}
    from {{ ref('mailbox_analytics') }} as f
    where {{ touched_days_only('f') }}
    group by f.tenant_id, f.activity_date

)

select
    coalesce(addresses.tenant_id, mailboxes.tenant_id) as tenant_id,
    coalesce(addresses.activity_date, mailboxes.activity_date) as activity_date
from addresses
full join mailboxes on addresses.tenant_id = mailboxes.tenant_id and addresses.activity_date = mailboxes.activity_date
where {{ counters_differ('addresses', 'mailboxes') }}
