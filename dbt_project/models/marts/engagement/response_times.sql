{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

-- Percentiles read from the classes, straight between the bounds of one; the row without a step is the whole campaign.
with classes as (

    -- Each class twice, not grouping sets: through those no condition on the tenant reaches the table.
    select t.tenant_id, t.campaign_id, scope.step_id, t.kind, t.delay_class, sum(t.messages) as messages, max(t.activity_date) as last_day
    from {{ ref('int_response_times') }} as t
    cross join lateral (values (t.step_id), (null::uuid)) as scope (step_id)
    group by t.tenant_id, t.campaign_id, scope.step_id, t.kind, t.delay_class

),

ranked as (

    select
        *,
        sum(messages) over (partition by tenant_id, campaign_id, step_id, kind) as total,
        sum(messages) over (partition by tenant_id, campaign_id, step_id, kind order by delay_class) as so_far
    from classes

)

select
    tenant_id,
    campaign_id,
    step_id,
    kind,
    max(total)::integer as messages,
    {%- for p in [10, 25, 50, 75, 90, 95] %}
    round(min(
        {{ delay_from('delay_class') }} + ({{ delay_to('delay_class') }} - {{ delay_from('delay_class') }})
        * ({{ p }} / 100.0 * total - (so_far - messages)) / messages
    ) filter (where so_far >= {{ p }} / 100.0 * total and so_far - messages < {{ p }} / 100.0 * total))::integer as p{{ p }}_seconds,
    {%- endfor %}
    {{ data_as_of() }} as data_as_of,
    {{ is_final_as_of('max(last_day)', data_as_of()) }} as is_final
from ranked
group by tenant_id, campaign_id, step_id, kind
