{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'mailbox_id', 'activity_date', 'provider'],
    touched='touched_mailbox_days',
    touched_by=['tenant_id', 'mailbox_id', 'activity_date'],
    indexes=[{'columns': ['tenant_id', 'mailbox_id', 'activity_date', 'provider'], 'unique': true}]
) }}

{% call summed_messages(
    ['tenant_id', 'mailbox_id', 'activity_date'], touched_mailbox_days,
    where='not m.is_warmup',
    by={'provider': "coalesce(known.provider, 'other')"},
    joins='left join ' ~ ref('recipient_providers') ~ ' as known on m.recipient_domain = known.domain'
) -%}
    mode() within group (order by m.company_id) as company_id,
    mode() within group (order by m.domain_id) as domain_id,
    {{ message_counters('m') }}
{%- endcall %}
