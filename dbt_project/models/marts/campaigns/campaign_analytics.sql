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

-- Enrolments up to the end of each day: running sums over the days on which leads came or went.
movements as (

    select tenant_id, campaign_id, activity_date as day, 0 as enrolled, 0 as completed, true as is_fact
    from days

    union all

    select e.tenant_id, e.campaign_id, e.day, e.enrolled, e.completed, false as is_fact
    from {{ ref('int_enrolment_days') }} as e
    where (e.tenant_id, e.campaign_id) in (select days.tenant_id, days.campaign_id from days)

),

running as (

    select
        tenant_id,
        campaign_id,
        day,
        is_fact,
        sum(enrolled) over up_to_day as enrolled,
        sum(completed) over up_to_day as completed
    from movements
    window up_to_day as (partition by tenant_id, campaign_id order by day range unbounded preceding)

)

select
    days.tenant_id,
    days.company_id,
    days.campaign_id,
    days.activity_date,
    {{ counters('days') }},
    campaigns.status,
    running.enrolled::integer as leads_total,
    greatest(running.enrolled - running.completed, 0)::integer as active_leads,
    running.completed::integer as completed_leads,
    days.billing_id,
    {{ is_final('days.activity_date') }} as is_final
from days
inner join running
    on days.tenant_id = running.tenant_id and days.campaign_id = running.campaign_id
    and days.activity_date = running.day and running.is_fact
left join {{ ref('stg_oltp__campaigns') }} as campaigns
    on days.tenant_id = campaigns.tenant_id and days.campaign_id = campaigns.campaign_id
