{{ config(materialized='table', post_hook='{{ make_missing_windows() }}') }}

-- One month each, on the day of the month of current_period_start, from the beginning of the contract to now or its end.
with changes as (

    select tenant_id, subscription_id, min(effective) as effective
    from {{ ref('stg_oltp__subscription_changes') }}
    group by tenant_id, subscription_id

),

contracts as (

    select
        s.tenant_id,
        s.subscription_id,
        s.plan_id,
        {{ utc_date('s.current_period_start') }}::timestamp as anchor,
        {{ utc_date('least(s.created, s.current_period_start, changes.effective)') }}::timestamp as begun,
        {{ utc_date("case when s.status = 'canceled' then coalesce(s.cancel_date, s.updated) else " ~ as_of() ~ " end") }}::timestamp as until
    from {{ ref('stg_oltp__subscriptions') }} as s
    left join changes on s.tenant_id = changes.tenant_id and s.subscription_id = changes.subscription_id

),

months as (

    select
        contracts.*,
        (anchor + make_interval(months => n)) as period_start,
        (anchor + make_interval(months => n + 1)) as period_end
    from contracts
    cross join lateral generate_series(
        (extract(year from age(begun, anchor)) * 12 + extract(month from age(begun, anchor)))::integer - 1,
        (extract(year from age(until, anchor)) * 12 + extract(month from age(until, anchor)))::integer + 1
    ) as n

),

-- Of two contracts the earlier keeps its window, the later begins where that ends.
following as (

    select
        *,
        max(period_end) over (
            partition by tenant_id order by begun, subscription_id, period_start
            rows between unbounded preceding and 1 preceding
        ) as earlier_end
    from months
    where period_end > begun and period_start <= until

)

select
    tenant_id,
    subscription_id,
    plan_id,
    greatest(period_start, earlier_end) at time zone 'UTC' as period_start,
    period_end at time zone 'UTC' as period_end
from following
where earlier_end is null or period_end > earlier_end
