-- Fails if a fact is still provisional on a day that should be final.
{%- for model in ['sequence_step_analytics', 'campaign_analytics', 'mailbox_analytics', 'infrastructure_analytics', 'warmup_analytics'] %}
select '{{ model }}' as fact, f.tenant_id, f.activity_date
from {{ ref(model) }} as f
where not f.is_final and {{ is_final('f.activity_date') }} and f.activity_date >= {{ online_from() }}
{{ 'union all' if not loop.last }}
{%- endfor %}
