{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

with usage as (

    select
        tenant_id,
        period_start,
        period_end,
        plan_slug,
        subscription_status,
        {{ usage_of('emails', 'emails_sent', 'limit_emails') }},
        {{ usage_of('mailboxes', 'mailboxes_used', 'limit_mailboxes') }},
        {{ usage_of('domains', 'domains_used', 'limit_domains') }},
        {{ usage_of('campaigns', 'campaigns_used', 'limit_campaigns') }},
        {{ usage_of('leads', 'leads_used', 'limit_leads') }},
        {{ usage_of('warmups', 'warmups_active', 'limit_warmups') }},
        {{ usage_of('storage', 'storage_bytes_used', '(limit_storage_gb * 1073741824::bigint)') }},
        {{ overage_mode('plan_slug') }} as overage_mode,
        mrr_cents,
        is_final
    from {{ ref('billing_analytics') }}

),

levels as (

    select
        *,
        greatest(
            emails_percent, mailboxes_percent, domains_percent, campaigns_percent, leads_percent, warmups_percent, storage_percent
        ) as highest_percent
    from usage

)

select
    tenant_id,
    period_start,
    period_end,
    plan_slug,
    subscription_status,
    {%- for name in ['emails', 'mailboxes', 'domains', 'campaigns', 'leads', 'warmups', 'storage'] %}
    {{ name }}_used,
    {{ name }}_limit,
    {{ name }}_percent,
    {{ name }}_remaining,
    {{ name }}_over,
    {%- endfor %}
    highest_percent,
    {{ alert_level('highest_percent') }} as alert_level,
    -- Earlier than its third day the projection says more about the day than about the month.
    {{ projected('emails_used', 'period_start', 'period_end', data_as_of()) }} as projected_emails,
    overage_mode,
    coalesce(case when overage_mode = 'auto_add' then {{ overage_price('emails_over') }} end, 0)::bigint as overage_cents,
    coalesce(case when overage_mode = 'approve' then {{ overage_price('emails_over') }} end, 0)::bigint as overage_awaiting_cents,
    (
        select round(sum(i.ip_cost + i.vps_cost) / nullif(sum(i.delivered), 0), 6)
        from {{ ref('infrastructure_analytics') }} as i
        where i.tenant_id = levels.tenant_id
            and i.activity_date >= {{ utc_date('levels.period_start') }} and i.activity_date < {{ utc_date('levels.period_end') }}
    ) as cost_per_email,
    mrr_cents,
    is_final,
    {{ data_as_of() }} as data_as_of
from levels
