{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'smtp_ip_address_id', 'activity_date'],
    touched='touched_ip_traffic',
    indexes=[
        {'columns': ['tenant_id', 'smtp_ip_address_id', 'activity_date'], 'unique': true},
        {'columns': ['activity_date', 'smtp_ip_address_id']}
    ]
) }}

{% call summed_messages(
    ['tenant_id', 'smtp_ip_address_id', 'activity_date'], touched_ip_traffic,
    where='not m.is_warmup',
    held={'smtp_ip_address_id': 'coalesce(m.smtp_ip_address_id, ' ~ nobody() ~ ')'}
) -%}
    {{ message_counters('m') }}
{%- endcall %}
