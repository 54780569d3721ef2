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
with messages as (

    {{ messages_of(['tenant_id', 'campaign_id', 'step_id', 'activity_date'], touched_step_send_days) }}
    where m.campaign_id is not null and not m.is_warmup

),

delays as (

    select tenant_id, campaign_id, step_id, activity_date, 'open' as kind, {{ delay_class('opened_time', 'sent_time') }} as delay_class
    from messages
    where opened_time is not null

    union all

    select tenant_id, campaign_id, step_id, activity_date, 'reply' as kind, {{ delay_class('replied_time', 'sent_time') }} as delay_class
    from messages
    where replied_time is not null

)

select tenant_id, campaign_id, step_id, activity_date, kind, delay_class, count(*)::integer as messages
from delays
group by tenant_id, campaign_id, step_id, activity_date, kind, delay_class
