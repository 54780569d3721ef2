{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'mailbox_id', 'activity_date', 'campaign_id', 'permanence', 'subject', 'fault'],
    touched='touched_mailbox_days',
    touched_by=['tenant_id', 'mailbox_id', 'activity_date'],
    indexes=[
        {'columns': ['tenant_id', 'mailbox_id', 'activity_date', 'campaign_id', 'permanence', 'subject', 'fault'], 'unique': true},
        {'columns': ['tenant_id', 'campaign_id', 'activity_date']}
    ]
) }}

select
    b.tenant_id,
    b.mailbox_id,
    b.activity_date,
    coalesce(b.campaign_id, {{ nobody() }}) as campaign_id,
    b.permanence,
    b.subject,
    b.fault,
    mode() within group (order by b.company_id) as company_id,
    mode() within group (order by b.domain_id) as domain_id,
    count(*)::integer as bounced,
    sum(b.hard_bounced)::integer as hard_bounced
from {{ ref('int_bounced_messages') }} as b
{%- if not is_full_build() %}
inner join ({{ touched_keys(touched_mailbox_days) }}) as touched
    on b.tenant_id = touched.tenant_id and b.mailbox_id = touched.mailbox_id and b.activity_date = touched.activity_date
{%- endif %}
group by b.tenant_id, b.mailbox_id, b.activity_date, coalesce(b.campaign_id, {{ nobody() }}), b.permanence, b.subject, b.fault
