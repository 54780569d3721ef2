{{ config(
    materialized='materialized_view',
    on_configuration_change='apply',
    indexes=[{'columns': ['day'], 'unique': true}],
    meta={'refresh_concurrently': true, 'owner': 'data platform', 'dagster': {'group': 'billing'}}
) }}

-- One row a day for the whole platform. Each tenant is judged by the start and the end of the day, so the day's movements
-- lead from the revenue of the day before to its own. Every source is summed by day first: joined they would multiply.
with changes as (

    select
        c.tenant_id,
        {{ utc_date('c.valid_from') }} as day,
        (array_agg(c.previous_cents order by c.valid_from))[1] as start_cents,
        (array_agg(c.mrr_cents order by c.valid_from desc))[1] as end_cents
    from {{ ref('int_mrr_changes') }} as c
    group by c.tenant_id, {{ utc_date('c.valid_from') }}

),

-- Retention of the month so far looks at those who paid when it began.
marked as (

    select
        changes.*,
        exists (
            select from {{ ref('int_mrr_changes') }} as c
            where c.tenant_id = changes.tenant_id and c.mrr_cents > 0
                and {{ earned_before(utc_start("date_trunc('month', changes.day)"), 'c') }}
        ) as paid_at_start_of_month
    from changes

),

movements as (

    select
        day,
        sum(end_cents - start_cents) as delta,
        coalesce(sum(end_cents - start_cents) filter (where paid_at_start_of_month), 0) as retained_delta,
        coalesce(sum(end_cents) filter (where start_cents = 0), 0) as new_cents,
        coalesce(sum(end_cents - start_cents) filter (where start_cents > 0 and end_cents > start_cents), 0) as expansion_cents,
        coalesce(sum(start_cents - end_cents) filter (where end_cents > 0 and end_cents < start_cents), 0) as contraction_cents,
        coalesce(sum(start_cents) filter (where end_cents = 0), 0) as churned_cents,
        count(*) filter (where start_cents = 0 and end_cents > 0) as new_tenants,
        count(*) filter (where start_cents > 0 and end_cents = 0) as churned_tenants
    from marked
    group by day

),

mail as (

    select activity_date as day, sum(sent) as sent, sum(delivered) as delivered
    from {{ ref('campaign_analytics') }}
    group by activity_date

),

costs as (

    select activity_date as day, sum(ip_cost + vps_cost) as cost
    from {{ ref('infrastructure_analytics') }}
    group by activity_date

),

days as (

    select
        d.day,
        sum(coalesce(movements.delta, 0)) over (order by d.day) as mrr_cents,
        coalesce(sum(coalesce(movements.delta, 0)) over (
            order by d.day rows between unbounded preceding and 1 preceding
        ), 0) as yesterday_cents,
        sum(coalesce(movements.retained_delta, 0)) over (partition by date_trunc('month', d.day) order by d.day) as retained_delta,
        sum(coalesce(movements.new_tenants - movements.churned_tenants, 0)) over (order by d.day) as active_tenants,
        coalesce(movements.new_cents, 0) as new_cents,
        coalesce(movements.expansion_cents, 0) as expansion_cents,
        coalesce(movements.contraction_cents, 0) as contraction_cents,
        coalesce(movements.churned_cents, 0) as churned_cents,
        coalesce(movements.new_tenants, 0) as new_tenants,
        coalesce(movements.churned_tenants, 0) as churned_tenants,
        coalesce(mail.sent, 0) as sent,
        coalesce(mail.delivered, 0) as delivered,
        costs.cost
    from {{ ref('int_calendar_days') }} as d
    left join movements on d.day = movements.day
    left join mail on d.day = mail.day
    left join costs on d.day = costs.day

),

months as (

    select
        *,
        first_value(yesterday_cents) over (partition by date_trunc('month', day) order by day) as start_of_month_cents,
        mrr_cents / 100.0 / extract(day from date_trunc('month', day) + interval '1 month' - interval '1 day') as earned
    from days

)

select
    day,
    mrr_cents::bigint as mrr_cents,
    new_cents::bigint as new_mrr_cents,
    expansion_cents::bigint as expansion_mrr_cents,
    contraction_cents::bigint as contraction_mrr_cents,
    churned_cents::bigint as churned_mrr_cents,
    {{ rate('start_of_month_cents + retained_delta', 'start_of_month_cents') }} as net_revenue_retention,
    active_tenants::integer as active_tenants,
    new_tenants::integer as new_tenants,
    churned_tenants::integer as churned_tenants,
    round(mrr_cents / nullif(active_tenants, 0))::bigint as arpa_cents,
    sent::bigint as emails_sent,
    {{ rate('delivered', 'sent') }} as delivery_rate,
    cost as infrastructure_cost,
    {{ rate('earned - cost', 'earned') }} as gross_margin,
    day <= (select max(known.day) from {{ ref('int_calendar_days') }} as known) - {{ var('final_after_days') }} as is_final,
    {{ data_as_of() }} as data_as_of
from months
