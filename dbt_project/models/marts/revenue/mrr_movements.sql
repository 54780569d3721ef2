{{ config(materialized='view') }}

-- Start and end of each month of each tenant that paid at either; what rose and fell in between is its balance.
with months as (

    select
        date_trunc('month', day)::date as month,
        {{ utc_start("date_trunc('month', day)") }} as month_start,
        {{ utc_start('max(day) + 1') }} as month_end,
        (date_trunc('month', day) + interval '1 month')::date <= (select max(day) from {{ ref('int_calendar_days') }}) as is_final
    from {{ ref('int_calendar_days') }}
    group by date_trunc('month', day)

),

starts as (

    select months.month, c.tenant_id, c.mrr_cents, c.first_paid
    from months
    inner join {{ ref('int_mrr_changes') }} as c on {{ earned_before('months.month_start', 'c') }}
    where c.mrr_cents > 0

),

ends as (

    select months.month, c.tenant_id, c.mrr_cents, c.first_paid
    from months
    inner join {{ ref('int_mrr_changes') }} as c on {{ earned_before('months.month_end', 'c') }}
    where c.mrr_cents > 0

),

balances as (

    select
        coalesce(starts.month, ends.month) as month,
        coalesce(starts.tenant_id, ends.tenant_id) as tenant_id,
        coalesce(starts.first_paid, ends.first_paid) as first_paid,
        coalesce(starts.mrr_cents, 0) as start_cents,
        coalesce(ends.mrr_cents, 0) as end_cents
    from starts
    full join ends on starts.month = ends.month and starts.tenant_id = ends.tenant_id

)

select
    balances.month,
    balances.tenant_id,
    {{ movement('balances.start_cents', 'balances.end_cents') }} as movement,
    balances.start_cents = 0 and balances.first_paid < months.month_start as is_reactivation,
    balances.start_cents,
    case when balances.start_cents = 0 then balances.end_cents else 0 end as new_cents,
    case when balances.start_cents > 0 then greatest(0, balances.end_cents - balances.start_cents) else 0 end as expansion_cents,
    case when balances.end_cents > 0 then greatest(0, balances.start_cents - balances.end_cents) else 0 end as contraction_cents,
    case when balances.end_cents = 0 then balances.start_cents else 0 end as churned_cents,
    balances.end_cents,
    months.is_final,
    {{ data_as_of(['oltp']) }} as data_as_of
from balances
inner join months on balances.month = months.month
