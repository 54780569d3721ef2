{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'mailbox_id', 'activity_date'],
    touched='touched_mailbox_days',
    indexes=[{'columns': ['tenant_id', 'mailbox_id', 'activity_date'], 'unique': true}]
) }}

{% call summed_messages(['tenant_id', 'mailbox_id', 'activity_date'], touched_mailbox_days, where='m.is_warmup') -%}
    mode() within group (order by m.company_id) as company_id,
    {{ message_counters('m') }}
{%- endcall %}
