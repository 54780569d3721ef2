-- Fails if a month does not lead from its start to its end, if it does not begin where the month before ended, or if the days
-- of the executive summary do not lead to the same revenue and number of tenants as the months.
{{ config(meta={'dagster': {'ref': {'name': 'revenue_by_month'}}}) }}
with months as (

    select *, lag(mrr_cents, 1, 0::bigint) over (order by month) as before, lag(active_tenants, 1, 0) over (order by month) as tenants_before
    from {{ ref('revenue_by_month') }}

),

days as (

    select
        *,
        lag(mrr_cents, 1, 0::bigint) over (order by day) as before,
        lag(active_tenants, 1, 0) over (order by day) as tenants_before,
        row_number() over (partition by date_trunc('month', day) order by day desc) as nth
    from {{ ref('executive_business_summary') }}

)

select 'month' as what, month as day
from months
where start_mrr_cents + new_mrr_cents + expansion_mrr_cents - contraction_mrr_cents - churned_mrr_cents <> mrr_cents
    or start_mrr_cents <> before
    or start_tenants + new_tenants - churned_tenants <> active_tenants
    or start_tenants <> tenants_before

union all

select 'day' as what, day
from days
where before + new_mrr_cents + expansion_mrr_cents - contraction_mrr_cents - churned_mrr_cents <> mrr_cents
    or tenants_before + new_tenants - churned_tenants <> active_tenants

union all

select 'day and month' as what, days.day
from days
inner join months on date_trunc('month', days.day)::date = months.month
where days.nth = 1
    and (days.mrr_cents, days.active_tenants, days.net_revenue_retention)
        is distinct from (months.mrr_cents, months.active_tenants, months.net_revenue_retention)
