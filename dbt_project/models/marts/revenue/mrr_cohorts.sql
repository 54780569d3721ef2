{{ config(materialized='view') }}

-- Tenants by the month in which they first paid, and what is left of them at the end of each month since.
with tenants as (

    select tenant_id, date_trunc('month', {{ utc_date('min(first_paid)') }})::date as cohort_month
    from {{ ref('int_mrr_changes') }}
    where first_paid is not null
    group by tenant_id

),

sizes as (

    select cohort_month, count(*)::integer as tenants
    from tenants
    group by cohort_month

),

months as (

    select
        date_trunc('month', day)::date as month,
        {{ utc_start('max(day) + 1') }} as month_end,
        (date_trunc('month', day) + interval '1 month')::date <= (select max(day) from {{ ref('int_calendar_days') }}) as is_final
    from {{ ref('int_calendar_days') }}
    group by date_trunc('month', day)

),

kept as (

    select tenants.cohort_month, months.month, count(*)::integer as retained_tenants, sum(c.mrr_cents)::bigint as mrr_cents
    from tenants
    inner join {{ ref('int_mrr_changes') }} as c on tenants.tenant_id = c.tenant_id
    inner join months on {{ earned_before('months.month_end', 'c') }} and months.month >= tenants.cohort_month
    where c.mrr_cents > 0
    group by tenants.cohort_month, months.month

),

ages as (

    select
        sizes.cohort_month,
        (12 * (extract(year from months.month) - extract(year from sizes.cohort_month))
            + extract(month from months.month) - extract(month from sizes.cohort_month))::integer as age_months,
        months.month,
        sizes.tenants,
        coalesce(kept.retained_tenants, 0) as retained_tenants,
        coalesce(kept.mrr_cents, 0) as mrr_cents,
        months.is_final
    from sizes
    inner join months on months.month >= sizes.cohort_month
    left join kept on sizes.cohort_month = kept.cohort_month and months.month = kept.month

)

select
    cohort_month,
    age_months,
    month,
    tenants,
    retained_tenants,
    mrr_cents,
    {{ rate('retained_tenants', 'tenants') }} as tenant_retention,
    {{ rate('mrr_cents', 'first_value(mrr_cents) over (partition by cohort_month order by age_months)') }} as mrr_retention,
    is_final,
    {{ data_as_of(['oltp']) }} as data_as_of
from ages
