{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

-- `now()` is right here: the projection of an open window changes by the minute and is not stored.
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
        mrr_cents,
        is_final,
        extract(epoch from least(now(), period_end) - period_start) / 86400 as elapsed_days,
        extract(epoch from period_end - period_start) / 86400 as window_days
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
    case
        when highest_percent >= 100 then 'reached'
        when highest_percent >= 95 then 'urgent'
        when highest_percent >= 90 then 'warning'
        when highest_percent >= 80 then 'notice'
    end as alert_level,
    -- From day 3: earlier the projection says more about the day than about the month.
    case when elapsed_days >= 2 then round(emails_used / elapsed_days * window_days)::bigint end as projected_emails,
    coalesce(ceil(emails_over / 10000.0) * 1000, 0)::bigint as overage_cents,
    mrr_cents,
    is_final
from levels
