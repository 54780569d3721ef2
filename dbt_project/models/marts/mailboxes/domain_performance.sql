{{ config(
    materialized='view',
    grants={'select': ['pm_analyst', 'pm_staff']},
    meta={'owner': 'data platform', 'dagster': {'group': 'mailboxes'}}
) }}

with days as (

    select
        f.tenant_id,
        f.domain_id,
        f.activity_date,
        (array_agg(f.company_id order by f.sent desc, f.company_id))[1] as company_id,
        {{ message_counters('f') }},
        count(*)::integer as mailbox_count,
        sum(f.daily_limit)::integer as total_capacity,
        sum(f.current_volume)::integer as total_volume,
        round(avg(f.health_score), 2) as avg_health_score,
        bool_and(f.is_final) as is_final
    from {{ ref('mailbox_analytics') }} as f
    where f.domain_id is not null
    group by f.tenant_id, f.domain_id, f.activity_date

),

months as (

    select
        *,
        sum(sent) over thirty_days as sent_30,
        sum(delivered) over thirty_days as delivered_30,
        sum(bounced) over thirty_days as bounced_30,
        sum(spam_complaints) over thirty_days as spam_complaints_30,
        sum(opened_tracked) over thirty_days as opened_tracked_30,
        sum(clicked_tracked) over thirty_days as clicked_tracked_30
    from days
    window thirty_days as (
        partition by tenant_id, domain_id order by activity_date
        range between interval '29 days' preceding and current row
    )

)

select
    f.tenant_id,
    f.company_id,
    f.domain_id,
    domains.domain,
    f.activity_date,
    {{ counters('f') }},
    f.mailbox_count,
    f.total_capacity,
    f.total_volume,
    {{ rate('f.total_volume', 'f.total_capacity') }} as utilisation,
    f.avg_health_score,
    f.sent_30,
    {{ rate('f.sent_30 - f.bounced_30 - f.spam_complaints_30', 'f.sent_30') }} as inbox_rate_30,
    {{ domain_health('f.sent_30', 'f.delivered_30', 'f.bounced_30', 'f.spam_complaints_30', 'f.opened_tracked_30', 'f.clicked_tracked_30') }}
        as domain_health_score,
    domains.verification_status as dns_status,
    domains.dns_last_verified,
    {{ alert_of(
        act="domains.verification_status = 'failed' and domains.dns_verification_attempts >= 3",
        warning="domains.verification_status = 'failed'") }} as dns_alert,
    f.is_final,
    {{ rates() }},
    {{ data_as_of() }} as data_as_of
from months as f
left join {{ ref('stg_oltp__domains') }} as domains
    on f.tenant_id = domains.tenant_id and f.domain_id = domains.domain_id
