{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

-- Each pair of campaigns of a tenant and each rate. Ask for 2 to 5 campaigns: where campaign_a = any(...) and campaign_b = any(...).
with measured as (

    select
        pair.*,
        {{ two_proportion_z('pair.hits_a', 'pair.size_a', 'pair.hits_b', 'pair.size_b') }} as z
    from (
        select
            a.tenant_id,
            a.campaign_id as campaign_a,
            a.campaign_name as campaign_name_a,
            b.campaign_id as campaign_b,
            b.campaign_name as campaign_name_b,
            least(a.delivered, b.delivered) as smaller_delivered,
            a.is_final and b.is_final as is_final,
            measure.*
        from {{ ref('campaign_performance_summary') }} as a
        inner join {{ ref('campaign_performance_summary') }} as b on a.tenant_id = b.tenant_id and a.campaign_id < b.campaign_id
        cross join lateral (
            values
            ('open_rate', a.opened_tracked, a.delivered, b.opened_tracked, b.delivered),
            ('click_rate', a.clicked_tracked, a.delivered, b.clicked_tracked, b.delivered),
            ('reply_rate', a.replied, a.delivered, b.replied, b.delivered),
            ('unsubscribe_rate', a.unsubscribed, a.delivered, b.unsubscribed, b.delivered),
            ('spam_rate', a.spam_complaints, a.delivered, b.spam_complaints, b.delivered),
            ('bounce_rate', a.bounced, a.sent, b.bounced, b.sent)
        ) as measure (measure, hits_a, size_a, hits_b, size_b)
    ) as pair

),

tested as (

    select
        *,
        smaller_delivered >= {{ var('comparison_minimum') }} as has_minimum_sample,
        {{ two_sided_p('z') }} as p_value
    from measured

)

select
    tenant_id,
    campaign_a,
    campaign_name_a,
    campaign_b,
    campaign_name_b,
    measure,
    hits_a,
    size_a,
    {{ rate('hits_a', 'size_a') }} as rate_a,
    {{ wilson('low', 'hits_a', 'size_a') }} as low_a,
    {{ wilson('high', 'hits_a', 'size_a') }} as high_a,
    hits_b,
    size_b,
    {{ rate('hits_b', 'size_b') }} as rate_b,
    {{ wilson('low', 'hits_b', 'size_b') }} as low_b,
    {{ wilson('high', 'hits_b', 'size_b') }} as high_b,
    round(100.0 * hits_a / nullif(size_a, 0) - 100.0 * hits_b / nullif(size_b, 0), 2) as difference,
    round(z::numeric, 4) as z,
    round(p_value::numeric, 6) as p_value,
    has_minimum_sample,
    case
        when not has_minimum_sample then 'too few'
        when p_value < {{ var('comparison_p') }} then 'real'
        else 'not shown'
    end as verdict,
    {{ data_as_of() }} as data_as_of,
    is_final
from tested
