-- Fails if two usage windows of a tenant share a moment.
select tenant_id, period_start, next_start
from (
    select tenant_id, period_start, period_end, lead(period_start) over (partition by tenant_id order by period_start) as next_start
    from {{ ref('billing_analytics') }}
) as windows
where next_start < period_end
