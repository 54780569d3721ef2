{{ config(
    materialized='incremental', incremental_strategy='slices', full_refresh=false,
    unique_key=['tenant_id', 'step_id'], touched='touched_steps',
    keep_when='exists (select from marts.sequence_step_analytics as f where f.tenant_id = t.tenant_id and f.step_id = t.step_id)'
) }}

select
    s.step_id,
    s.tenant_id,
    s.campaign_id,
    s.step_order,
    s.step_type,
    templates.name as template_name,
    greatest(s.updated, templates.updated) as source_updated
from {{ ref('stg_oltp__campaign_sequence_steps') }} as s
left join {{ ref('stg_oltp__templates') }} as templates
    on s.tenant_id = templates.tenant_id and s.template_id = templates.template_id
{%- if not is_full_build() %}
where (s.tenant_id, s.step_id) in ({{ touched_keys(touched_steps) }})
{%- endif %}
