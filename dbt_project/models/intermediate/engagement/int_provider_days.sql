{{ config(
    materialized='incremental',
    incremental_strategy='slices',
    full_refresh=false,
    unique_key=['tenant_id', 'mailbox_id', 'activity_date', 'provider'],
    touched='touched_mailbox_days',
    touched_by=['tenant_id', 'mailbox_id', 'activity_date'],
    indexes=[{'columns': ['tenant_id', 'mailbox_id', 'activity_date', 'provider'], 'unique': true}]
) }}

select
    m.tenant_id,
    m.mailbox_id,
    m.activity_date,
    coalesce(known.provider, 'other') as provider,
    mode() within group (order by m.company_id) as company_id,
    mode() within group (order by m.domain_id) as domain_id,
    {{ message_counters('m') }}
from {{ ref('int_messages') }} as m
{%- if not is_full_build() %}
inner join ({{ touched_mailbox_days() }}) as touched
    on m.tenant_id = touched.tenant_id and m.mailbox_id = touched.mailbox_id and m.activity_date = touched.activity_date
{%- endif %}
left join {{ ref('recipient_providers') }} as known on m.recipient_domain = known.domain
where not m.is_warmup
group by m.tenant_id, m.mailbox_id, m.activity_date, coalesce(known.provider, 'other')
