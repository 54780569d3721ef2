{{ config(
    materialized='view',
    grants={'select': ['pm_analyst', 'pm_staff']},
    meta={'owner': 'data platform', 'dagster': {'group': 'mailboxes'}}
) }}

-- The thirty days that end with the latest day of the marts.
with latest as (

    select {{ latest_day() }} as day

),

-- A score is a snapshot: the last one of the period stands for the mailbox, with the weight of all that it sent.
mailboxes as (

    select
        f.tenant_id,
        f.company_id,
        f.mailbox_id,
        {{ message_counters('f') }},
        (array_agg(f.health_score order by f.activity_date desc) filter (where f.health_score is not null))[1] as health_score,
        bool_and(f.is_final) as is_final
    from {{ ref('mailbox_analytics') }} as f
    cross join latest
    where f.activity_date > latest.day - 30 and f.activity_date <= latest.day
    group by f.tenant_id, f.company_id, f.mailbox_id

),

workspaces as (

    select
        tenant_id,
        company_id,
        {{ message_counters() }},
        round(1.0 * sum(sent * health_score) / nullif(sum(sent) filter (where health_score is not null), 0))::smallint as workspace_health_score,
        min(health_score) as worst_mailbox_score,
        bool_and(is_final) as is_final
    from mailboxes
    group by tenant_id, company_id

),

capacity as (

    select tenant_id, company_id, count(*)::integer as active_mailboxes, sum(daily_limit)::integer as daily_capacity
    from {{ ref('int_mailboxes') }}
    where status = 'active' and not is_deleted
    group by tenant_id, company_id

),

-- Read once and joined on both keys by name, so that the tenant of a reader reaches the facts.
results as (

    select
        tenant_id,
        company_id,
        companies.name as company_name,
        {%- for name in counter_names() %}
        coalesce(workspaces.{{ name }}, 0) as {{ name }},
        {%- endfor %}
        workspaces.workspace_health_score,
        workspaces.worst_mailbox_score,
        coalesce(workspaces.is_final, true) as is_final
    from {{ ref('dim_companies') }} as companies
    full join workspaces using (tenant_id, company_id)

)

select
    results.tenant_id,
    results.company_id,
    results.company_name,
    latest.day - 29 as period_start,
    latest.day as period_end,
    {{ counters('results') }},
    results.workspace_health_score,
    case
        when results.workspace_health_score >= 80 then 'green'
        when results.workspace_health_score >= 60 then 'yellow'
        when results.workspace_health_score >= 0 then 'red'
    end as health_colour,
    results.worst_mailbox_score,
    coalesce(capacity.active_mailboxes, 0) as active_mailboxes,
    coalesce(capacity.daily_capacity, 0) as daily_capacity,
    {{ rate('results.sent', 'sum(results.sent) over (partition by results.tenant_id)') }} as spend_share,
    results.is_final,
    {{ rates() }},
    {{ data_as_of() }} as data_as_of
from results
cross join latest
left join capacity on results.tenant_id = capacity.tenant_id and results.company_id = capacity.company_id
