{{ config(
    materialized='incremental', incremental_strategy='slices', full_refresh=false,
    unique_key=['tenant_id', 'valid_from'], touched='touched_revenue', touched_by=['tenant_id'],
    indexes=[{'columns': ['tenant_id', 'valid_from'], 'unique': true}]
) }}

{%- set full = is_full_build() %}

-- Steps of the monthly recurring revenue of a tenant, at the price of each day: the sum over its contracts, so that one of
-- two that ends is a smaller sum. Of several changes of a contract at one time the last one holds.
with changes as (

    select distinct on (c.tenant_id, c.subscription_id, c.effective)
        c.tenant_id, c.subscription_id, c.effective, {{ paid_cents('c.status', 'c.mrr_cents') }} as cents
    from {{ ref('stg_oltp__subscription_changes') }} as c
    {%- if not full %}
    where c.tenant_id in (select t.tenant_id from ({{ touched_revenue() }}) as t)
    {%- endif %}
    order by c.tenant_id, c.subscription_id, c.effective, c.created desc, c.change_id

),

addons as (

    select tenant_id, subscription_id, sum(100 * quantity * price_monthly) as cents
    from {{ ref('stg_oltp__subscription_addons') }}
    where is_active
    group by tenant_id, subscription_id

),

-- A contract older than the history has the price of today since it began.
unwritten as (

    select
        s.tenant_id,
        s.subscription_id,
        s.created as effective,
        {{ paid_cents('s.status', "coalesce(" ~ list_price('s.billing_interval', 'plans') ~ " + coalesce(addons.cents, 0), 0)") }} as cents
    from {{ ref('stg_oltp__subscriptions') }} as s
    left join {{ ref('stg_oltp__plans') }} as plans on s.plan_id = plans.plan_id
    left join addons on s.tenant_id = addons.tenant_id and s.subscription_id = addons.subscription_id
    where not exists (
        select from {{ ref('stg_oltp__subscription_changes') }} as c
        where c.tenant_id = s.tenant_id and c.subscription_id = s.subscription_id
    )
    {%- if not full %}
        and s.tenant_id in (select t.tenant_id from ({{ touched_revenue() }}) as t)
    {%- endif %}

),

contract_steps as (

    select
        tenant_id,
        effective,
        round(cents)::bigint
        - coalesce(lag(round(cents)::bigint) over (partition by tenant_id, subscription_id order by effective), 0) as delta
    from (select * from changes union all select * from unwritten) as contracts

),

tenant_steps as (

    select tenant_id, effective, sum(delta) as delta
    from contract_steps
    group by tenant_id, effective

),

running as (

    select tenant_id, effective, delta, sum(delta) over (partition by tenant_id order by effective) as cents
    from tenant_steps

)

select
    tenant_id,
    effective as valid_from,
    lead(effective) over (partition by tenant_id order by effective) as valid_until,
    (cents - delta)::bigint as previous_cents,
    cents::bigint as mrr_cents,
    min(effective) filter (where cents > 0) over (partition by tenant_id) as first_paid
from running
where delta <> 0
