{{ config(
    materialized='view',
    grants={'select': ['pm_analyst', 'pm_staff']},
    meta={'owner': 'data platform', 'dagster': {'group': 'mailboxes'}}
) }}

-- The thirty days that end with the latest day of the marts. What is used twice is not materialized: a tenant would wait for all.
with latest as (

    select {{ latest_day() }} as day

),

facts as not materialized (

    select f.*
    from {{ ref('mailbox_analytics') }} as f
    cross join latest
    where f.activity_date > latest.day - 30 and f.activity_date <= latest.day

),

-- A score is a snapshot: the last one of the period stands for the mailbox, with the weight of all that it sent.
mailboxes as (

    select
        tenant_id,
        company_id,
        mailbox_id,
        sum(sent) as sent,
        (array_agg(health_score order by activity_date desc) filter (where health_score is not null))[1] as health_score
    from facts
    group by tenant_id, company_id, mailbox_id

),

scores as (

    select
        tenant_id,
        company_id,
        round(sum(sent * health_score) / nullif(sum(sent) filter (where health_score is not null), 0))::smallint as workspace_health_score,
        min(health_score) as worst_mailbox_score
    from mailboxes
    group by tenant_id, company_id

),

workspaces as not materialized (

    select
        tenant_id,
        company_id,
        {{ message_counters() }},
        bool_and(is_final) as is_final
    from facts
    group by tenant_id, company_id

),

capacity as (

    select tenant_id, company_id, count(*)::integer as active_mailboxes, sum(daily_limit)::integer as daily_capacity
    from {{ ref('int_mailboxes') }}
    where status = 'active' and not is_deleted
    group by tenant_id, company_id

),

clients as (

    select tenant_id, company_id from {{ ref('dim_companies') }}
    union
    select tenant_id, company_id from workspaces

),

results as (

    select
        clients.tenant_id,
        clients.company_id,
        {%- for name in counter_names() %}
        coalesce(workspaces.{{ name }}, 0) as {{ name }},
        {%- endfor %}
        coalesce(workspaces.is_final, true) as is_final
    from clients
    left join workspaces on clients.tenant_id = workspaces.tenant_id and clients.company_id = workspaces.company_id

)

select
    results.tenant_id,
    results.company_id,
    companies.name as company_name,
    latest.day - 29 as period_start,
    latest.day as period_end,
    {{ counters('results') }},
    scores.workspace_health_score,
    case
        when scores.workspace_health_score >= 80 then 'green'
        when scores.workspace_health_score >= 60 then 'yellow'
        when scores.workspace_health_score >= 0 then 'red'
    end as health_colour,
    scores.worst_mailbox_score,
    coalesce(capacity.active_mailboxes, 0) as active_mailboxes,
    coalesce(capacity.daily_capacity, 0) as daily_capacity,
    {{ rate('results.sent', 'sum(results.sent) over (partition by results.tenant_id)') }} as spend_share,
    results.is_final,
    {{ rates() }},
    {{ data_as_of() }} as data_as_of
from results
cross join latest
left join scores on results.tenant_id = scores.tenant_id and results.company_id = scores.company_id
left join capacity on results.tenant_id = capacity.tenant_id and results.company_id = capacity.company_id
left join {{ ref('dim_companies') }} as companies
    on results.tenant_id = companies.tenant_id and results.company_id = companies.company_id
