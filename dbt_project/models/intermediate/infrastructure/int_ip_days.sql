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

with messages as (

    select m.*
    from {{ ref('int_messages') }} as m
    {%- if not is_full_build() %}
    inner join ({{ touched_ip_traffic() }}) as touched
        on m.tenant_id = touched.tenant_id and coalesce(m.smtp_ip_address_id, {{ nobody() }}) = touched.smtp_ip_address_id
        and m.activity_date = touched.activity_date
    {%- endif %}
    where not m.is_warmup

)

select
    tenant_id,
    coalesce(smtp_ip_address_id, {{ nobody() }}) as smtp_ip_address_id,
    activity_date,
    {{ message_counters() }}
from messages
group by tenant_id, coalesce(smtp_ip_address_id, {{ nobody() }}), activity_date
