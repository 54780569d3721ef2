{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff']}) }}

select
    f.tenant_id,
    f.company_id,
    f.mailbox_id,
    mailboxes.mailbox_pseudonym,
    mailboxes.domain,
    f.activity_date,
    {{ counters('f') }},
    f.schedule_type,
    f.warmup_status,
    f.current_day,
    f.total_days,
    f.progress_percentage,
    f.planned_volume,
    {{ rate('f.sent', 'f.planned_volume') }} as planned_volume_reached,
    f.health_score,
    {{ warmup_band('f.health_score') }} as health_band,
    {{ rates() }},
    f.is_final,
    {{ data_as_of() }} as data_as_of
from {{ ref('warmup_analytics') }} as f
left join {{ ref('dim_mailboxes') }} as mailboxes
    on f.tenant_id = mailboxes.tenant_id and f.mailbox_id = mailboxes.mailbox_id
