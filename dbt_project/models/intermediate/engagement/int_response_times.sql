{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'campaign_id', 'step_id', 'activity_date', 'kind', 'delay_class'],
    touched='touched_step_send_days',
    touched_by=['tenant_id', 'campaign_id', 'step_id', 'activity_date'],
    indexes=[{'columns': ['tenant_id', 'campaign_id', 'step_id', 'activity_date', 'kind', 'delay_class'], 'unique': true}]
) }}

-- How long after its sending a message was first opened and first answered, in classes that can be summed.
{% call summed_messages(
    ['tenant_id', 'campaign_id', 'step_id', 'activity_date'], touched_step_send_days,
    where='m.campaign_id is not null and not m.is_warmup and response.responded is not null',
    by={'kind': 'response.kind', 'delay_class': delay_class('response.responded', 'm.sent_time')},
    joins="cross join lateral (values ('open', m.opened_time), ('reply', m.replied_time)) as response (kind, responded)"
) -%}
    count(*)::integer as messages
{%- endcall %}
