-- Fails if a closed window with its corrections is not what is counted now: a late event that nobody posted.
{{ config(meta={'dagster': {'ref': {'name': 'billing_analytics'}}}) }}
with recent as (

    select
        w.id, w.tenant_id, w.period_start, w.period_end, w.emails_sent,
        {{ utc_date('w.period_start') }} as first_day, {{ utc_date('w.period_end') }} as end_day
    from {{ ref('billing_analytics') }} as w
    where w.is_final and {{ utc_date('w.period_start') }} >= {{ online_from() }}
        and (w.tenant_id in (select t.tenant_id from {{ ref('int_touched_messages') }} as t) or {{ everything_is_touched() }})

),

corrected as (

    select recent.*, recent.emails_sent + coalesce((
        select sum(c.delta)
        from {{ ref('billing_corrections') }} as c
        where c.tenant_id = recent.tenant_id and c.period_start = recent.period_start
            and c.period_end = recent.period_end and c.counter = 'emails_sent'
    ), 0) as reported
    from recent

)

select corrected.tenant_id, corrected.first_day, corrected.emails_sent, corrected.reported, coalesce(sum(f.sent), 0) as counted
from corrected
left join {{ ref('mailbox_analytics') }} as f
    on corrected.tenant_id = f.tenant_id and f.activity_date >= corrected.first_day and f.activity_date < corrected.end_day
group by corrected.id, corrected.tenant_id, corrected.first_day, corrected.emails_sent, corrected.reported
having coalesce(sum(f.sent), 0) <> corrected.reported
