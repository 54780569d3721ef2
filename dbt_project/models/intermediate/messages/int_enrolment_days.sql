{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'campaign_id', 'day'],
    touched='touched_campaign_leads',
    touched_by=['tenant_id', 'campaign_id'],
    indexes=[{'columns': ['tenant_id', 'campaign_id', 'day'], 'unique': true}]
) }}

-- depends_on: {{ ref('int_touched_messages') }}
with enrolments as (

    select e.*
    from {{ ref('stg_oltp__campaign_leads') }} as e
    {%- if not is_full_build() %}
    inner join ({{ touched_keys(touched_campaign_leads) }}) as touched
        on e.tenant_id = touched.tenant_id and e.campaign_id = touched.campaign_id
    {%- endif %}

),

movements as (

    select tenant_id, campaign_id, {{ utc_date('created') }} as day, 1 as enrolled, 0 as completed
    from enrolments

    union all

    select tenant_id, campaign_id, {{ utc_date('greatest(completed, created)') }} as day, 0 as enrolled, 1 as completed
    from enrolments
    where completed is not null

)

select
    tenant_id,
    campaign_id,
    day,
    sum(enrolled)::integer as enrolled,
    sum(completed)::integer as completed
from movements
group by tenant_id, campaign_id, day
