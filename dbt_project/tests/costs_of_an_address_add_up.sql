-- Fails if the shares of a day that is still open are not, to the cent, the price of the address and its part of the server,
-- or if a live address has no row at all. Prices of final days are those of their time; nothing can be compared there.
{{ config(meta={'dagster': {'ref': {'name': 'infrastructure_analytics'}}}) }}
with live as (

    select
        a.*,
        day::date as activity_date,
        extract(day from date_trunc('month', day) + interval '1 month - 1 day') as days
    from {{ ref('int_ip_addresses') }} as a
    cross join lateral generate_series(
        greatest(a.first_day, {{ as_of_date() }} - {{ var('final_after_days') }} + 1)::timestamp,
        least(a.last_day, {{ as_of_date() }})::timestamp,
        interval '1 day'
    ) as day

),

servers as (

    select vps_instance_id, activity_date, count(*) as addresses
    from live
    group by vps_instance_id, activity_date

),

booked as (

    select smtp_ip_address_id, activity_date, sum(ip_cost) as ip_cost, sum(vps_cost) as vps_cost
    from {{ ref('infrastructure_analytics') }}
    where activity_date > {{ as_of_date() }} - {{ var('final_after_days') }}
    group by smtp_ip_address_id, activity_date

)

select live.smtp_ip_address_id, live.activity_date
from live
inner join servers on live.vps_instance_id = servers.vps_instance_id and live.activity_date = servers.activity_date
left join booked
    on live.smtp_ip_address_id = booked.smtp_ip_address_id and live.activity_date = booked.activity_date
where booked.smtp_ip_address_id is null
    or abs(booked.ip_cost - coalesce(live.ip_price_monthly, 0) / live.days) >= 0.005
    or abs(booked.vps_cost - coalesce(live.server_price_monthly, 0) / live.days / servers.addresses
        * (live.activity_date <= coalesce(live.server_last_day, live.activity_date))::integer) >= 0.005
