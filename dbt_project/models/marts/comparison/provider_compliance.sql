{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

-- What Gmail and Yahoo ask of senders, by the primary domain of the sender. Complaints are those that reach us: Gmail reports none
-- for single messages, so its rate here is a lower bound beside Postmaster Tools. What lay in the inbox is not known; delivered
-- mail stands for it, which makes the rate of Yahoo a lower bound too.
with days as (

    select
        f.tenant_id,
        {{ primary_domain('mailboxes.domain', last_two_labels('mailboxes.domain') ~ ' in (select suffix from ' ~ ref('public_suffixes') ~ ')') }} as primary_domain,
        f.provider,
        f.activity_date,
        sum(f.sent)::integer as sent,
        sum(f.delivered)::integer as delivered,
        sum(f.spam_complaints)::integer as spam_complaints
    from {{ ref('int_provider_days') }} as f
    inner join {{ ref('dim_mailboxes') }} as mailboxes
        on f.tenant_id = mailboxes.tenant_id and f.mailbox_id = mailboxes.mailbox_id
    where f.provider in ('gmail', 'yahoo') and mailboxes.domain is not null
    group by f.tenant_id, primary_domain, f.provider, f.activity_date

),

months as (

    select
        *,
        sum(delivered) over month as delivered_30,
        sum(spam_complaints) over month as spam_complaints_30,
        -- Once a bulk sender, always one.
        max(sent) over (partition by tenant_id, primary_domain, provider order by activity_date) >= {{ var('bulk_sender_messages') }} as is_bulk_sender
    from days
    window month as (
        partition by tenant_id, primary_domain, provider order by activity_date
        range between interval '29 days' preceding and current row
    )

),

judged as (

    select
        *,
        100.0 * spam_complaints_30 / nullif(delivered_30, 0) as spam_rate_30,
        case provider when 'gmail' then {{ var('gmail_complaint_target') }} end as target,
        case provider when 'gmail' then {{ var('gmail_complaint_limit') }} else {{ var('yahoo_complaint_limit') }} end as most
    from months

)

select
    tenant_id,
    primary_domain,
    provider,
    activity_date,
    sent,
    delivered,
    spam_complaints,
    round(100.0 * spam_complaints / nullif(delivered, 0), 3) as spam_rate,
    delivered_30::integer as delivered_30_days,
    spam_complaints_30::integer as spam_complaints_30_days,
    round(spam_rate_30, 3) as spam_rate_30_days,
    is_bulk_sender,
    target as target_rate,
    most as limit_rate,
    round(target - spam_rate_30, 3) as distance_to_target,
    round(most - spam_rate_30, 3) as distance_to_limit,
    -- How many more complaints the month bears before its rate reaches the limit; below 0, how many it has too many.
    case when delivered_30 > 0 then (ceil(most * delivered_30 / 100) - 1 - spam_complaints_30)::integer end as complaints_left,
    case
        when spam_rate_30 is null then null
        when spam_rate_30 >= most then 'over the limit'
        when spam_rate_30 >= target then 'over the target'
        else 'good'
    end as state,
    {{ is_final_as_of('activity_date', 'clock.data_as_of') }} as is_final,
    clock.data_as_of
from judged
cross join (select {{ data_as_of() }} as data_as_of) as clock
