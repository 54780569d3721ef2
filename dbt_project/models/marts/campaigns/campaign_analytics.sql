{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'campaign_id', 'activity_date'],
    touched='touched_campaign_days',
    partition_date='activity_date',
    frozen_columns=['status']
) }}

{%- set full = is_full_build() %}

with steps as (

    select s.*
    from {{ ref('sequence_step_analytics') }} as s
    {%- if not full %}
    inner join ({{ touched_keys(touched_campaign_days) }}) as touched
        on s.tenant_id = touched.tenant_id and s.campaign_id = touched.campaign_id
        and s.activity_date = touched.activity_date
    {%- endif %}

),

days as (

    select
        tenant_id,
        campaign_id,
        activity_date,
        -- The workspace of the step that sent most; of several the smallest id.
        (array_agg(company_id order by sent desc, company_id))[1] as company_id,
        (array_agg(billing_id order by billing_id))[1] as billing_id,
        {{ message_counters() }}
    from steps
    group by tenant_id, campaign_id, activity_date

),

-- Enrolments up to the end of each day: running sums over the days on which leads came or went. The day's figures go along
-- in the same rows, for a join back to them may be planned as a loop that sums everything anew for each.
movements as (

    select days.*, 0 as enrolled, 0 as completed, true as is_fact
    from days

    union all

    select
        e.tenant_id, e.campaign_id, e.day, null as company_id, null as billing_id,
        {% for name in counter_names() %}null as {{ name }}, {% endfor %}e.enrolled, e.completed, false as is_fact
    from {{ ref('int_enrolment_days') }} as e
    where (e.tenant_id, e.campaign_id) in (select days.tenant_id, days.campaign_id from days)

),

running as (

    select
        tenant_id,
        company_id,
        campaign_id,
        activity_date,
        {{ counters() }},
        billing_id,
        is_fact,
        sum(enrolled) over up_to_day as leads_enrolled,
        sum(completed) over up_to_day as leads_completed
    from movements
    window up_to_day as (partition by tenant_id, campaign_id order by activity_date range unbounded preceding)

)

select
    running.tenant_id,
    running.company_id,
    running.campaign_id,
    running.activity_date,
    {{ counters('running') }},
    campaigns.status,
    running.leads_enrolled::integer as leads_total,
    greatest(running.leads_enrolled - running.leads_completed, 0)::integer as active_leads,
    running.leads_completed::integer as completed_leads,
    running.billing_id,
    {{ is_final('running.activity_date') }} as is_final
from running
left join {{ ref('stg_oltp__campaigns') }} as campaigns
    on running.tenant_id = campaigns.tenant_id and running.campaign_id = campaigns.campaign_id
where running.is_fact
