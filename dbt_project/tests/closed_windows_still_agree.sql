{{ config(severity='warn') }}

-- Warns if late events changed the mail of a window after it was frozen. Reported, never re-billed.
with recent as (

    select
        w.id, w.tenant_id, w.emails_sent,
        {{ utc_date('w.period_start') }} as first_day, {{ utc_date('w.period_end') }} as end_day
    from {{ ref('billing_analytics') }} as w
    where w.is_final and w.period_end > {{ as_of() }} - interval '70 days'
        and w.tenant_id in (select t.tenant_id from {{ ref('int_touched_messages') }} as t)

)

select recent.tenant_id, recent.first_day, recent.emails_sent, sum(f.sent) as counted
from recent
inner join {{ ref('mailbox_analytics') }} as f
    on recent.tenant_id = f.tenant_id and f.activity_date >= recent.first_day and f.activity_date < recent.end_day
group by recent.id, recent.tenant_id, recent.first_day, recent.emails_sent
having sum(f.sent) <> recent.emails_sent
