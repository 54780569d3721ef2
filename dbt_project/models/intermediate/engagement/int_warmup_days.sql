{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'mailbox_id', 'activity_date'],
    touched='touched_mailbox_days',
    indexes=[{'columns': ['tenant_id', 'mailbox_id', 'activity_date'], 'unique': true}]
) }}

with messages as (

    select m.*
    from {{ ref('int_messages') }} as m
    {%- if not is_full_build() %}
    inner join ({{ touched_mailbox_days() }}) as touched
        on m.tenant_id = touched.tenant_id and m.mailbox_id = touched.mailbox_id
        and m.activity_date = touched.activity_date
    {%- endif %}
    where m.is_warmup

)

select
    tenant_id,
    mailbox_id,
    activity_date,
    mode() within group (order by company_id) as company_id,
    {{ message_counters() }}
from messages
group by tenant_id, mailbox_id, activity_date
