{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['activity_date', 'smtp_ip_address_id', 'tenant_id'],
    nullable_keys=['tenant_id'],
    touched='touched_ip_days',
    touched_by=['activity_date', 'smtp_ip_address_id'],
    partition_date='activity_date'
) }}

{%- set full = is_full_build() %}

-- No history of prices and reputation is kept at their source, so what the facts once said is kept: the reputation of a
-- day that is over, the price of one that is final. Late mail of a final day is given its share of the price of then.
with {% if not full -%}
touched as materialized (

    {{ touched_keys(touched_ip_days) }}

),

{% endif -%}
addresses as (

    select * from {{ ref('int_ip_addresses') }}

),

traffic as (

    select t.*
    from {{ ref('int_ip_days') }} as t
    {%- if not full %}
    inner join touched on t.activity_date = touched.activity_date and t.smtp_ip_address_id = touched.smtp_ip_address_id
    {%- endif %}
    where t.activity_date >= {{ online_from() }}

),

kept as (

    select
        f.activity_date,
        f.smtp_ip_address_id,
        f.activity_date < {{ as_of_date() }} as is_over,
        bool_or(f.is_final) as is_final,
        min(f.vps_instance_id::text)::uuid as vps_instance_id,
        min(f.ip_status) as ip_status,
        min(f.reputation_state) as reputation_state,
        min(f.reputation_score) as reputation_score,
        max(f.domains_assigned) as domains_assigned,
        max(f.blacklist_count) as blacklist_count,
        sum(f.ip_cost) as ip_cost,
        sum(f.vps_cost) as vps_cost
    from {{ this }} as f
    {%- if not full %}
    inner join touched on f.activity_date = touched.activity_date and f.smtp_ip_address_id = touched.smtp_ip_address_id
    {%- endif %}
    group by f.activity_date, f.smtp_ip_address_id

),

rented as (

    {% if full -%}
    select day::date as activity_date, a.smtp_ip_address_id
    from addresses as a
    cross join lateral generate_series(
        greatest(a.first_day, {{ online_from() }})::timestamp, least(a.last_day, {{ as_of_date() }})::timestamp, interval '1 day'
    ) as day
    {%- else -%}
    select touched.activity_date, touched.smtp_ip_address_id
    from touched
    inner join addresses as a on touched.smtp_ip_address_id = a.smtp_ip_address_id
    where touched.activity_date between a.first_day and least(a.last_day, {{ as_of_date() }})
    {%- endif %}

),

ip_days as (

    select activity_date, smtp_ip_address_id from rented
    union
    select activity_date, smtp_ip_address_id from traffic

),

-- What the register says, as far as the day can be told from it; once for each address and day, not for each of its tenants.
known as materialized (

    select
        d.activity_date,
        d.smtp_ip_address_id,
        a.vps_instance_id,
        a.status,
        a.reputation_state,
        a.reputation_score,
        round(a.ip_price_monthly / month.days, 4) as ip_price,
        case
            when d.activity_date <= coalesce(a.server_last_day, d.activity_date)
                then round(a.server_price_monthly / month.days / greatest(neighbours.addresses, 1), 4)
        end as server_price,
        assigned.domains,
        listed.lists,
        listed.major_lists
    from ip_days as d
    left join addresses as a on d.smtp_ip_address_id = a.smtp_ip_address_id
    cross join lateral (
        select
            extract(day from date_trunc('month', d.activity_date) + interval '1 month - 1 day') as days,
            -- The end of the day, or now while it lasts.
            least({{ utc_start('d.activity_date + 1') }}, {{ as_of() }}) as until
    ) as month
    left join lateral (
        select count(*) as addresses
        from addresses as n
        where n.vps_instance_id = a.vps_instance_id
            and d.activity_date between n.first_day and coalesce(n.last_day, d.activity_date)
    ) as neighbours on true
    left join lateral (
        select count(distinct s.domain_id) as domains
        from {{ ref('stg_oltp__domain_ip_assignments') }} as s
        where s.smtp_ip_address_id = d.smtp_ip_address_id
            and s.status <> 'scheduled'
            and s.assigned <= month.until
            and (s.status <> 'expired' or coalesce(s.expires, s.updated) > month.until)
    ) as assigned on true
    left join lateral (
        select
            count(distinct l.blacklist_name) as lists,
            count(distinct l.blacklist_name) filter (where l.is_major) as major_lists
        from {{ ref('int_ip_listings') }} as l
        where l.smtp_ip_address_id = d.smtp_ip_address_id
            and l.listed <= month.until
            and (l.delisted is null or l.delisted > month.until)
    ) as listed on true

),

dated as (

    select
        known.*,
        kept.is_over and kept.smtp_ip_address_id is not null as keeps_reputation,
        coalesce(kept.is_final, false) as keeps_all,
        kept.vps_instance_id as kept_vps_instance_id,
        kept.ip_status as kept_status,
        kept.reputation_state as kept_state,
        case when kept.is_over then kept.reputation_state else known.reputation_state end as said_state,
        kept.domains_assigned as kept_domains,
        kept.blacklist_count as kept_lists,
        kept.ip_cost as kept_ip_price,
        kept.vps_cost as kept_server_price,
        case when kept.is_over then kept.reputation_score else known.reputation_score end as score
    from known
    left join kept
        on known.activity_date = kept.activity_date and known.smtp_ip_address_id = kept.smtp_ip_address_id

),

priced as (

    select
        activity_date,
        smtp_ip_address_id,
        coalesce(case when keeps_all then kept_vps_instance_id end, vps_instance_id, {{ nobody() }}) as vps_instance_id,
        case when keeps_reputation then kept_status else status end as ip_status,
        case when keeps_all then kept_state else {{ reputation_state('score', 'major_lists', 'said_state') }} end as reputation_state,
        score as reputation_score,
        case when keeps_all then kept_domains else coalesce(domains, 0) end as domains_assigned,
        case when keeps_all then kept_lists else coalesce(lists, 0) end as blacklist_count,
        case when keeps_all then kept_ip_price else coalesce(ip_price, 0) end as ip_price,
        case when keeps_all then kept_server_price else coalesce(server_price, 0) end as server_price
    from dated

),

-- Running shares, rounded at each tenant: their differences add up to the price exactly.
shares as (

    select
        tenant_id,
        activity_date,
        smtp_ip_address_id,
        {{ counters() }},
        sum(sent) over (partition by activity_date, smtp_ip_address_id order by tenant_id)
        / sum(sent) over (partition by activity_date, smtp_ip_address_id)::numeric as up_to,
        (sum(sent) over (partition by activity_date, smtp_ip_address_id order by tenant_id) - sent)
        / sum(sent) over (partition by activity_date, smtp_ip_address_id)::numeric as before
    from traffic

)

select
    priced.activity_date,
    priced.vps_instance_id,
    priced.smtp_ip_address_id,
    shares.tenant_id,
    {%- for name in counter_names() %}
    coalesce(shares.{{ name }}, 0) as {{ name }},
    {%- endfor %}
    priced.domains_assigned::integer as domains_assigned,
    priced.ip_status,
    priced.reputation_state::varchar(50) as reputation_state,
    priced.reputation_score,
    priced.blacklist_count::smallint as blacklist_count,
    round(priced.ip_price * coalesce(shares.up_to, 1), 4) - round(priced.ip_price * coalesce(shares.before, 0), 4) as ip_cost,
    round(priced.server_price * coalesce(shares.up_to, 1), 4) - round(priced.server_price * coalesce(shares.before, 0), 4) as vps_cost,
    {{ is_final('priced.activity_date') }} as is_final
from priced
left join shares
    on priced.activity_date = shares.activity_date and priced.smtp_ip_address_id = shares.smtp_ip_address_id
