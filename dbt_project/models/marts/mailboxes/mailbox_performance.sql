{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

with days as (

    select
        f.tenant_id,
        f.company_id,
        f.mailbox_id,
        mailboxes.mailbox_pseudonym as email,
        mailboxes.domain,
        f.activity_date,
        {{ counters('f') }},
        f.warmup_status,
        f.warmup_progress as progress_percentage,
        f.health_score,
        {{ health_band('f.health_score') }} as health_band,
        f.current_volume,
        f.daily_limit,
        {{ rate('f.current_volume', 'f.daily_limit') }} as utilisation,
        f.is_final,
        {{ rates() }},
        {{ rate('f.soft_bounced', 'f.sent') }} as soft_bounce_rate,
        round({{ engagement_score() }}, 2) as engagement_score,
        {{ data_as_of() }} as data_as_of
    from {{ ref('mailbox_analytics') }} as f
    left join {{ ref('dim_mailboxes') }} as mailboxes
        on f.tenant_id = mailboxes.tenant_id and f.mailbox_id = mailboxes.mailbox_id

),

alerted as (

    select
        *,
        {{ mail_alerts() }},
        {{ alert_of(act='health_score < 50', warning='health_score < 60', notice='health_score < 75') }} as health_alert
    from days

)

select
    *,
    {{ most_serious(['bounce_alert', 'spam_alert', 'unsubscribe_alert', 'delivery_alert', 'health_alert']) }} as alert_level
from alerted
