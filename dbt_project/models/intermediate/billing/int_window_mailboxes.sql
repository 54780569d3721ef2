{{ config(
    materialized='incremental', incremental_strategy='slices', full_refresh=false,
    unique_key=['tenant_id', 'period_start', 'mailbox_id'], touched='touched_windows', touched_by=['tenant_id', 'period_start'],
    keep_when='true',
    indexes=[{'columns': ['tenant_id', 'period_start', 'mailbox_id'], 'unique': true}]
) }}

-- Append-only: a mailbox that was active at any refresh of a window counts for it, whatever became of it.
-- depends_on: {{ ref('int_usage_windows') }}, {{ ref('stg_oltp__tenants') }}
with windows as (

    {{ touched_windows() }}

)

select windows.tenant_id, windows.period_start, mailboxes.mailbox_id
from windows
inner join {{ ref('stg_oltp__email_accounts') }} as mailboxes on windows.tenant_id = mailboxes.tenant_id
where mailboxes.status = 'active'
    and windows.period_start <= {{ as_of() }} and windows.period_end > {{ as_of() }}

union

-- One that sent mail in the window was active then.
select windows.tenant_id, windows.period_start, days.mailbox_id
from windows
inner join {{ ref('int_mailbox_days') }} as days
    on windows.tenant_id = days.tenant_id
    and days.activity_date >= {{ utc_date('windows.period_start') }}
    and days.activity_date < {{ utc_date('windows.period_end') }}
where days.mailbox_id <> {{ nobody() }}
