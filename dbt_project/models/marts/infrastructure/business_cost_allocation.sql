{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

-- The row without a tenant is what idle addresses cost; it belongs to nobody and is not spread.
with days as (

    select
        f.tenant_id,
        f.activity_date,
        date_trunc('month', f.activity_date)::date as month,
        sum(f.sent) as sent,
        sum(f.delivered) as delivered,
        sum(f.ip_cost) as ip_cost,
        sum(f.vps_cost) as vps_cost,
        bool_and(f.is_final) as is_final
    from {{ ref('infrastructure_analytics') }} as f
    group by f.tenant_id, f.activity_date

),

-- How far each month has come; its two halves meet in the middle of that.
months as (

    select
        month,
        max(activity_date) as last_day,
        (max(activity_date) - month + 1) / 2 as half,
        max(activity_date) - month + 1 as days
    from days
    group by month

),

totals as (

    select
        days.tenant_id,
        days.month,
        months.last_day,
        sum(days.ip_cost) as ip_cost,
        sum(days.vps_cost) as vps_cost,
        sum(days.ip_cost + days.vps_cost) as total_cost,
        sum(days.sent)::bigint as emails_sent,
        sum(days.delivered)::bigint as emails_delivered,
        -- Days without a row cost nothing: the mean is over the days of the half.
        coalesce(sum(days.ip_cost + days.vps_cost) filter (where days.activity_date < days.month + months.half), 0)
        / nullif(months.half, 0) as first_half,
        coalesce(sum(days.ip_cost + days.vps_cost) filter (where days.activity_date >= days.month + months.half), 0)
        / nullif(months.days - months.half, 0) as last_half,
        bool_and(days.is_final) and months.last_day = (days.month + interval '1 month - 1 day')::date as is_final
    from days
    inner join months on days.month = months.month
    group by days.tenant_id, days.month, months.last_day, months.half, months.days

),

priced as (

    select
        totals.*,
        (
            select sum(w.mrr_cents)
            from {{ ref('billing_analytics') }} as w
            where w.tenant_id = totals.tenant_id
                and {{ utc_date('w.period_start') }} <= totals.last_day and {{ utc_date('w.period_end') }} > totals.last_day
        )::bigint as mrr_cents
    from totals

)

select
    tenant_id,
    month,
    ip_cost,
    vps_cost,
    total_cost,
    emails_sent,
    emails_delivered,
    {{ cost_per_email('total_cost', 'emails_delivered') }} as cost_per_email,
    {{ cost_band('total_cost', 'emails_delivered') }} as cost_band,
    case when tenant_id is not null then coalesce(mrr_cents, 0) end as mrr_cents,
    round(case when tenant_id is not null then coalesce(mrr_cents, 0) end / 100.0 / nullif(total_cost, 0), 2) as price_to_cost,
    case
        when tenant_id is null or total_cost = 0 then null
        when coalesce(mrr_cents, 0) / 100.0 >= 2 * total_cost then 'healthy'
        when coalesce(mrr_cents, 0) / 100.0 >= 1.5 * total_cost then 'good'
        when coalesce(mrr_cents, 0) / 100.0 >= total_cost then 'thin'
        else 'loss'
    end as business_health,
    case
        when first_half is null then null
        when last_half > 1.1 * first_half then 'increasing'
        when last_half < 0.9 * first_half then 'decreasing'
        else 'stable'
    end as cost_trend,
    is_final,
    {{ data_as_of() }} as data_as_of
from priced
