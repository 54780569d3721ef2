{# Which days of a sending address a build must recompute, and which months of the rollups. #}

{# (tenant_id, smtp_ip_address_id, activity_date) whose messages changed; mail without an address is nobody's. #}
{% macro touched_ip_traffic() -%}
    select distinct tenant_id, smtp_ip_address_id, activity_date
    from {{ ref('int_touched_messages') }}
    where smtp_ip_address_id is not null and activity_date is not null
{%- endmacro %}

{# Addresses whose register entry, assignments or listings changed, or their server, and all that share a server with
   them, now or in a fact: the price of a server is split over its addresses. #}
{% macro changed_ips() -%}
    select a.smtp_ip_address_id, a.first_day, a.last_day
    from {{ ref('int_ip_addresses') }} as a
    where a.smtp_ip_address_id in (
        select entity_id from ({{ touched_entities(['oltp.domain_ip_assignments', 'oltp.blacklist_checks']) }}) as e
    )
    or a.vps_instance_id in (
        select entity_id from ({{ touched_entities(['oltp.vps_instances']) }}) as e
        union
        select b.vps_instance_id
        from {{ ref('int_ip_addresses') }} as b
        inner join ({{ touched_entities(['oltp.smtp_ip_addresses']) }}) as e on b.smtp_ip_address_id = e.entity_id
        union
        select f.vps_instance_id
        from marts.infrastructure_analytics as f
        inner join ({{ touched_entities(['oltp.smtp_ip_addresses']) }}) as e on f.smtp_ip_address_id = e.entity_id
        where f.activity_date > {{ as_of_date() }} - {{ var('final_after_days') }}
    )
{%- endmacro %}

{# (activity_date, smtp_ip_address_id) of the infrastructure facts to recompute. #}
{% macro touched_ip_days() -%}
    select activity_date, smtp_ip_address_id
    from ({{ touched_ip_traffic() }}) as t
    where activity_date >= {{ online_from() }}

    union

    -- Days that are still open; all days of an address that came with a past.
    select day::date as activity_date, c.smtp_ip_address_id
    from ({{ changed_ips() }}) as c
    cross join lateral generate_series(
        case
            when exists (
                select from marts.infrastructure_analytics as f
                where f.smtp_ip_address_id = c.smtp_ip_address_id
                    and f.activity_date = greatest(c.first_day, {{ online_from() }})
            ) then greatest(c.first_day, {{ as_of_date() }} - {{ var('final_after_days') }} + 1)
            else greatest(c.first_day, {{ online_from() }})
        end::timestamp,
        {{ as_of_date() }}::timestamp,
        interval '1 day'
    ) as day

    union

    select f.activity_date, f.smtp_ip_address_id
    from marts.infrastructure_analytics as f
    inner join ({{ changed_ips() }}) as c on f.smtp_ip_address_id = c.smtp_ip_address_id
    where f.activity_date > {{ as_of_date() }} - {{ var('final_after_days') }}

    union

    select f.activity_date, f.smtp_ip_address_id
    from marts.infrastructure_analytics as f
    inner join ({{ closing_days() }}) as d on f.activity_date = d.activity_date
    where d.tenant_id is null and not f.is_final

    union

    -- A day has begun: it gets its idle row, and the days since the last one with a row end as they were.
    select day::date as activity_date, a.smtp_ip_address_id
    from {{ slices() }} as s
    inner join {{ ref('int_ip_addresses') }} as a on s.entity_id = a.smtp_ip_address_id
    cross join lateral generate_series(
        greatest(a.first_day, s.activity_date, {{ online_from() }})::timestamp,
        least(a.last_day, {{ as_of_date() }})::timestamp,
        interval '1 day'
    ) as day
    where s.kind = 'entity' and s.cause = 'time.infrastructure_day'
{%- endmacro %}
