{{ config(materialized='view') }}

with months as (

    select
        date_trunc('month', day)::date as month,
        -- From the first of the month, also where the calendar begins later: its costs do.
        extract(day from max(day))::integer as days,
        extract(day from date_trunc('month', day) + interval '1 month' - interval '1 day')::integer as days_in_month,
        (date_trunc('month', day) + interval '1 month')::date <= (select max(day) from {{ ref('int_calendar_days') }}) as is_final
    from {{ ref('int_calendar_days') }}
    group by date_trunc('month', day)

),

movements as (

    select
        month,
        sum(start_cents)::bigint as start_mrr_cents,
        sum(new_cents)::bigint as new_mrr_cents,
        coalesce(sum(new_cents) filter (where is_reactivation), 0)::bigint as reactivated_mrr_cents,
        sum(expansion_cents)::bigint as expansion_mrr_cents,
        sum(contraction_cents)::bigint as contraction_mrr_cents,
        sum(churned_cents)::bigint as churned_mrr_cents,
        sum(end_cents)::bigint as mrr_cents,
        count(*) filter (where start_cents > 0)::integer as start_tenants,
        count(*) filter (where movement = 'new')::integer as new_tenants,
        count(*) filter (where movement = 'new' and is_reactivation)::integer as reactivated_tenants,
        count(*) filter (where movement = 'churned')::integer as churned_tenants,
        count(*) filter (where end_cents > 0)::integer as active_tenants
    from {{ ref('mrr_movements') }}
    group by month

),

costs as (

    select date_trunc('month', activity_date)::date as month, sum(ip_cost + vps_cost) as cost
    from {{ ref('infrastructure_analytics') }}
    group by date_trunc('month', activity_date)

),

-- What came in; not revenue of the month, for a year is paid at once.
cash as (

    select
        date_trunc('month', {{ utc_date('processed') }})::date as month,
        round(100 * sum(amount) filter (where status in ('succeeded', 'refunded')))::bigint as cents
    from {{ ref('stg_oltp__payments') }}
    where processed is not null
    group by date_trunc('month', {{ utc_date('processed') }})

),

figures as (

    select
        months.month,
        {%- for name in ['start_mrr', 'new_mrr', 'reactivated_mrr', 'expansion_mrr', 'contraction_mrr', 'churned_mrr', 'mrr'] %}
        coalesce(movements.{{ name }}_cents, 0) as {{ name }}_cents,
        {%- endfor %}
        {%- for name in ['start', 'new', 'reactivated', 'churned', 'active'] %}
        coalesce(movements.{{ name }}_tenants, 0) as {{ name }}_tenants,
        {%- endfor %}
        costs.cost as infrastructure_cost,
        -- The share of the month that has passed earns the revenue that stands against its cost.
        coalesce(movements.mrr_cents, 0) / 100.0 * months.days / months.days_in_month as earned,
        coalesce(cash.cents, 0) as cash_cents,
        months.is_final
    from months
    left join movements on months.month = movements.month
    left join costs on months.month = costs.month
    left join cash on months.month = cash.month

)

select
    month,
    start_mrr_cents,
    new_mrr_cents,
    reactivated_mrr_cents,
    expansion_mrr_cents,
    contraction_mrr_cents,
    churned_mrr_cents,
    mrr_cents,
    12 * mrr_cents as arr_cents,
    start_tenants,
    new_tenants,
    reactivated_tenants,
    churned_tenants,
    active_tenants,
    {{ rate('start_mrr_cents + expansion_mrr_cents - contraction_mrr_cents - churned_mrr_cents', 'start_mrr_cents') }} as net_revenue_retention,
    {{ rate('start_mrr_cents - contraction_mrr_cents - churned_mrr_cents', 'start_mrr_cents') }} as gross_revenue_retention,
    {{ rate('churned_tenants', 'start_tenants') }} as churn_rate,
    round(mrr_cents::numeric / nullif(active_tenants, 0))::bigint as arpa_cents,
    infrastructure_cost,
    {{ rate('earned - infrastructure_cost', 'earned') }} as gross_margin,
    round(
        mrr_cents::numeric / nullif(active_tenants, 0)
        * (earned - infrastructure_cost) / nullif(earned, 0)
        * start_tenants / nullif(churned_tenants, 0)
    )::bigint as ltv_cents,
    cash_cents,
    is_final,
    {{ data_as_of() }} as data_as_of
from figures
