{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'campaign_id', 'lead_id'],
    touched='touched_leads'
) }}

{%- set full = is_full_build() %}

-- depends_on: {{ ref('int_usage_windows') }}
with messages as (

    select m.*
    from {{ ref('int_messages') }} as m
    {%- if not full %}
    inner join ({{ touched_leads() }}) as touched
        on m.tenant_id = touched.tenant_id and m.campaign_id = touched.campaign_id and m.lead_id = touched.lead_id
    {%- endif %}
    where m.campaign_id is not null and m.lead_id is not null and not m.is_warmup

),

{% if full -%}
last_events as (

    select tenant_id, storage_key, max(occurred) as occurred
    from {{ ref('int_engagement_events') }}
    where class <> 'machine'
    group by tenant_id, storage_key

),

{% endif -%}
leads as (

    select
        messages.tenant_id,
        messages.campaign_id,
        messages.lead_id,
        -- The workspace of most messages; of several the smallest id.
        mode() within group (order by messages.company_id) as company_id,
        {{ message_counters('messages') }},
        min(messages.sent_time) as first_sent,
        max(messages.sent_time) as last_sent,
        max(greatest(last_events.occurred, messages.opened_time, messages.clicked_time, messages.replied_time)) as last_engaged,
        {{ utc_date('max(messages.sent_time)') }} as activity_date
    from messages
    -- Milestones hold the first time of each kind; the last comes from the events.
    {%- if full %}
    left join last_events on messages.tenant_id = last_events.tenant_id and messages.storage_key = last_events.storage_key
    {%- else %}
    -- By index for each message: that few are touched cannot be foreseen, and a join may go through all for each.
    cross join lateral (
        select max(e.occurred) as occurred
        from {{ ref('int_engagement_events') }} as e
        where e.tenant_id = messages.tenant_id and e.storage_key = messages.storage_key and e.class <> 'machine'
    ) as last_events
    {%- endif %}
    group by messages.tenant_id, messages.campaign_id, messages.lead_id

)

select
    leads.tenant_id,
    leads.company_id,
    leads.campaign_id,
    leads.lead_id,
    {{ counters('leads') }},
    enrolments.status,
    {{ lead_points('leads.opened_tracked', 'leads.clicked_tracked', 'leads.replied', 'leads.bounced', 'leads.spam_complaints', 'leads.unsubscribed') }} as lead_score,
    leads.first_sent,
    leads.last_sent,
    leads.last_engaged,
    {{ billing_id('leads') }} as billing_id
from leads
left join {{ ref('stg_oltp__campaign_leads') }} as enrolments
    on leads.tenant_id = enrolments.tenant_id and leads.campaign_id = enrolments.campaign_id and leads.lead_id = enrolments.lead_id
