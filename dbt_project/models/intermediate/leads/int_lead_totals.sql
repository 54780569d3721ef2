{{ config(
    materialized='incremental', incremental_strategy='slices', full_refresh=false,
    unique_key=['tenant_id', 'lead_id'], touched='touched_people',
    indexes=[{'columns': ['tenant_id', 'lead_id'], 'unique': true}],
    post_hook='create index if not exists int_lead_totals_by_points on {{ this }} (tenant_id, points) where points > 0'
) }}

-- A person over all campaigns of the tenant: points add up, and whoever unsubscribed anywhere has none.
with campaigns as (

    select f.*
    {%- if is_full_build() %}
    from {{ ref('lead_analytics') }} as f
    {%- else %}
    from ({{ touched_keys(touched_people) }}) as touched
    cross join lateral (
        select * from {{ ref('lead_analytics') }} as f
        where f.tenant_id = touched.tenant_id and f.lead_id = touched.lead_id
        offset 0
    ) as f
    {%- endif %}

),

totals as (

    select
        tenant_id,
        lead_id,
        count(*)::integer as campaigns,
        {{ message_counters() }},
        min(first_sent) as first_sent,
        max(last_sent) as last_sent,
        max(last_engaged) as last_engaged
    from campaigns
    group by tenant_id, lead_id

)

select
    *,
    {{ lead_points('opened_tracked', 'clicked_tracked', 'replied', 'bounced', 'spam_complaints', 'unsubscribed') }} as points
from totals
-- In the order of lead_analytics.
order by tenant_id, last_sent
