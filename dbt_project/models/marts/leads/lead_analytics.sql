{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'campaign_id', 'lead_id'],
    touched='touched_leads'
) }}

-- depends_on: {{ ref('int_usage_windows') }}
with leads as (

    {% call summed_messages(
        ['tenant_id', 'campaign_id', 'lead_id'], touched_leads,
        where='m.campaign_id is not null and m.lead_id is not null and not m.is_warmup'
    ) -%}
        -- The workspace of most messages; of several the smallest id.
        mode() within group (order by m.company_id) as company_id,
        {{ message_counters('m') }},
        min(m.sent_time) as first_sent,
        max(m.sent_time) as last_sent,
        max(greatest(m.last_event_time, m.opened_time, m.clicked_time, m.replied_time)) as last_engaged,
        {{ utc_date('max(m.sent_time)') }} as activity_date
    {%- endcall %}

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
-- The leads of a tenant lie together, and of those the ones that the next build will touch.
order by leads.tenant_id, leads.last_sent
