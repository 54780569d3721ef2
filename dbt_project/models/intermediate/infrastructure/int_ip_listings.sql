{{ config(materialized='view') }}

-- Each stay of an address on a blacklist. Checks are kept when the state changes: a stay ends when it is said to, or
-- with the next check of the same list that finds the address no longer there.
with checks as (

    select
        *,
        lead(is_listed) over checks_of_list as next_is_listed,
        lead(coalesce(delisted, checked)) over checks_of_list as next_time
    from {{ ref('stg_oltp__blacklist_checks') }}
    where smtp_ip_address_id is not null
    window checks_of_list as (partition by smtp_ip_address_id, blacklist_name order by checked, created, check_id)

)

select
    smtp_ip_address_id,
    blacklist_name,
    lower(blacklist_name) in (
        {%- for name in var('major_blacklists') %}'{{ name }}'{{ ', ' if not loop.last }}{% endfor -%}
    ) as is_major,
    coalesce(listed_since, checked) as listed,
    least(delisted, case when not next_is_listed then next_time end) as delisted
from checks
where is_listed or (listed_since is not null and delisted is not null)
