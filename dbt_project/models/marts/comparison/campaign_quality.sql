{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

with scored as (

    select
        *,
        100 * (0.4 * delivered / nullif(sent, 0) + 0.3 * (1 - 1.0 * bounced / nullif(sent, 0))
            + 0.3 * (1 - 1.0 * spam_complaints / nullif(delivered, 0))) as deliverability
    from {{ ref('campaign_performance_summary') }}

)

select
    tenant_id,
    company_id,
    campaign_id,
    campaign_name,
    sent,
    delivered,
    delivered >= {{ var('comparison_minimum') }} as has_minimum_sample,
    round(deliverability, 2) as deliverability_score,
    case
        when deliverability is null then null
        when deliverability >= 90 then 'excellent'
        when deliverability >= 75 then 'good'
        when deliverability >= 60 then 'warning'
        else 'critical'
    end as deliverability_band,
    {{ rate('sent - bounced - spam_complaints', 'sent') }} as estimated_inbox_rate,
    {{ rate('0.3 * opened_tracked + 0.4 * clicked_tracked + 0.3 * replied', 'sent') }} as engagement_score,
    {{ ratio('opens_total', 'opened_tracked') }} as opens_per_opened_message,
    {{ ratio('clicks_total', 'clicked_tracked') }} as clicks_per_clicked_message,
    {%- for name, hits in [('open', 'opened_tracked'), ('click', 'clicked_tracked'), ('reply', 'replied')] %}
    {{ rate(hits, 'delivered') }} as {{ name }}_rate,
    {{ wilson('low', hits, 'delivered') }} as {{ name }}_rate_low,
    {{ wilson('high', hits, 'delivered') }} as {{ name }}_rate_high,
    {%- endfor %}
    {{ data_as_of() }} as data_as_of,
    is_final
from scored
