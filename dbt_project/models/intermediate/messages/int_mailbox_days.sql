{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'mailbox_id', 'activity_date'],
    touched='touched_mailbox_days',
    indexes=[{'columns': ['tenant_id', 'mailbox_id', 'activity_date'], 'unique': true}]
) }}

{% call summed_messages(['tenant_id', 'mailbox_id', 'activity_date'], touched_mailbox_days) -%}
    mode() within group (order by m.company_id) as company_id,
    mode() within group (order by m.domain_id) as domain_id,
    {{ message_counters('m', only='not m.is_warmup') }},
    count(*)::integer as current_volume,
    array_agg(distinct m.campaign_id) filter (where m.campaign_id is not null and not m.is_warmup) as campaign_ids
{%- endcall %}
