{{ config(materialized='view') }}

-- Reads the sources and not staging on purpose: an address that was given back keeps its history and its costs.
with addresses as (

    select * from {{ source('oltp', 'smtp_ip_addresses') }}

),

servers as (

    select * from {{ source('oltp', 'vps_instances') }}

)

select
    addresses.id as smtp_ip_address_id,
    addresses.vps_instance_id,
    addresses.ip_address,
    addresses.status,
    addresses.reputation_state,
    addresses.reputation_score,
    addresses.approximate_cost as ip_price_monthly,
    coalesce(servers.approximate_cost, servers.monthly_cost) as server_price_monthly,
    -- A server that was given up costs nothing after its last day.
    case
        when servers._deleted is not null then {{ utc_date('servers._deleted') }}
        when servers.status = 'decommissioned' then {{ utc_date('coalesce(servers.decommission_scheduled_for, servers.updated)') }}
    end as server_last_day,
    {{ utc_date('addresses.created') }} as first_day,
    {{ utc_date('addresses._deleted') }} as last_day
from addresses
left join servers on addresses.vps_instance_id = servers.id
