{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'storage_key', 'event_key'],
    touched='touched_bounces',
    touched_by=['tenant_id', 'storage_key'],
    indexes=[{'columns': ['tenant_id', 'storage_key', 'event_key'], 'unique': true}]
) }}

{%- set full = is_full_build() %}

-- Every report of a bounce, also those that are not the outcome of their message; the same event reported twice is one.
with reports as (

    select distinct on (tenant_id, storage_key, event_key)
        tenant_id, storage_key, event_key, bounced, bounce_type,
        {{ bounce_status('bounce_code', 'bounce_reason') }}::varchar(20) as status_code,
        bounce_reason
    from ({{ of_touched_messages('stg_content__email_bounces', full, touched_bounces) }}) as e
    order by tenant_id, storage_key, event_key, bounced, event_id

),

classified as (

    select
        *,
        {{ bounce_permanence('status_code', 'bounce_type') }} as permanence,
        {{ bounce_subject('status_code', 'bounce_reason') }} as subject
    from reports

)

select
    tenant_id,
    storage_key,
    event_key,
    bounced,
    bounce_type,
    status_code,
    permanence,
    subject,
    {{ bounce_fault('status_code', 'subject') }} as fault,
    {{ var('bounce_rule_version') }}::smallint as rule_version
from classified
