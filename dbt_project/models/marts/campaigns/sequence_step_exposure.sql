{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

-- The funnel by lead, each step against the leads that could have reached it: whoever still waits for an earlier step or for
-- this one is left out of its denominator, so recent enrolments do not make late steps look bad. What is used twice is not
-- materialized: a condition on the tenant or campaign then reaches the tables.
with steps as not materialized (

    select
        tenant_id, campaign_id, step_id, step_order, template_name,
        row_number() over (partition by tenant_id, campaign_id order by step_order, step_id)::integer as position
    from {{ ref('dim_sequence_steps') }}
    where step_type = 'email'

),

messages as not materialized (

    select m.*, steps.position
    from {{ ref('int_messages') }} as m
    inner join steps on m.tenant_id = steps.tenant_id and m.campaign_id = steps.campaign_id and m.step_id = steps.step_id
    where m.campaign_id is not null and m.lead_id is not null and not m.is_warmup

),

mailed as (

    select
        tenant_id, campaign_id, lead_id, position,
        max(delivered) as delivered,
        max(opened_tracked) as opened,
        max(clicked_tracked) as clicked,
        max(replied) as replied,
        sum(opens_total) as opens_total,
        max(activity_date) as last_day
    from messages
    group by tenant_id, campaign_id, lead_id, position

),

by_step as (

    select
        tenant_id, campaign_id, position,
        count(*)::integer as leads_sent,
        sum(delivered)::integer as leads_delivered,
        sum(opened)::integer as leads_opened,
        sum(clicked)::integer as leads_clicked,
        sum(replied)::integer as leads_replied,
        sum(opens_total)::integer as opens_total,
        max(last_day) as last_day
    from mailed
    group by tenant_id, campaign_id, position

),

furthest as (

    select tenant_id, campaign_id, lead_id, max(position) as position
    from messages
    group by tenant_id, campaign_id, lead_id

),

-- Every lead that is enrolled or was mailed, how far it came, and whether its next mail is still to come.
leads as (

    select
        coalesce(e.tenant_id, furthest.tenant_id) as tenant_id,
        coalesce(e.campaign_id, furthest.campaign_id) as campaign_id,
        coalesce(furthest.position, 0) as position,
        e.completed is null and e.status in ('enrolled', 'active', 'paused')
            and (e.next_due is null or e.next_due > clock.data_as_of) as is_waiting
    from {{ ref('stg_oltp__campaign_leads') }} as e
    full join furthest
        on e.tenant_id = furthest.tenant_id and e.campaign_id = furthest.campaign_id and e.lead_id = furthest.lead_id
    cross join (select {{ data_as_of() }} as data_as_of) as clock

),

by_position as (

    select
        tenant_id, campaign_id, position,
        count(*) as leads,
        count(*) filter (where is_waiting) as waiting
    from leads
    group by tenant_id, campaign_id, position

),

counted as (

    select
        steps.*,
        coalesce(sum(p.leads), 0)::integer as leads_total,
        coalesce(sum(p.waiting) filter (where p.position < steps.position), 0)::integer as leads_not_yet_due,
        coalesce(sum(p.waiting) filter (where p.position = steps.position - 1), 0)::integer as leads_waiting_for_it
    from steps
    inner join by_position as p on steps.tenant_id = p.tenant_id and steps.campaign_id = p.campaign_id
    group by steps.tenant_id, steps.campaign_id, steps.step_id, steps.step_order, steps.template_name, steps.position

),

funnel as (

    select
        counted.*,
        counted.leads_total - counted.leads_not_yet_due as leads_exposed,
        coalesce(b.leads_sent, 0) as leads_sent,
        coalesce(b.leads_delivered, 0) as leads_delivered,
        coalesce(b.leads_opened, 0) as leads_opened,
        coalesce(b.leads_clicked, 0) as leads_clicked,
        coalesce(b.leads_replied, 0) as leads_replied,
        coalesce(b.opens_total, 0) as opens_total,
        max(b.last_day) over (partition by counted.tenant_id, counted.campaign_id) as last_day,
        lag(coalesce(b.leads_sent, 0)) over (
            partition by counted.tenant_id, counted.campaign_id order by counted.position
        ) as leads_sent_before
    from counted
    left join by_step as b
        on counted.tenant_id = b.tenant_id and counted.campaign_id = b.campaign_id and counted.position = b.position

)

select
    tenant_id,
    campaign_id,
    step_id,
    step_order,
    template_name,
    position,
    leads_total,
    leads_not_yet_due,
    leads_exposed,
    leads_sent,
    leads_delivered,
    leads_opened,
    leads_clicked,
    leads_replied,
    {{ rate('leads_sent', 'leads_exposed') }} as reached_per_exposed_lead,
    {{ rate('leads_sent', 'leads_sent_before - leads_waiting_for_it') }} as reached_per_due_lead_of_previous,
    {{ rate('leads_opened', 'leads_delivered') }} as opened_per_delivered_lead,
    {{ rate('leads_clicked', 'leads_delivered') }} as clicked_per_delivered_lead,
    {{ rate('leads_replied', 'leads_delivered') }} as replied_per_delivered_lead,
    {{ ratio('opens_total', 'leads_opened') }} as opens_per_opening_lead,
    {{ data_as_of() }} as data_as_of,
    leads_not_yet_due = 0 and coalesce({{ is_final_as_of('last_day', data_as_of()) }}, false) as is_final
from funnel
