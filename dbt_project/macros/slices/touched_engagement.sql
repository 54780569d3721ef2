{# Keys of the facts by lead, by hour and of warmup that a build must recompute. #}

{# (tenant_id, campaign_id, lead_id) of the leads with a touched message, a new state of enrolment, or a window to find. #}
{% macro touched_leads() -%}
    select tenant_id, campaign_id, lead_id
    from {{ ref('int_touched_messages') }}
    where campaign_id is not null and lead_id is not null
    {%- set facts = earlier('marts', 'lead_analytics') -%}
    {%- if facts is not none %}
    union
    {# A slice names the campaign of an enrolment. Rows that changed, or were found deleted, were loaded with their slice. #}
    select e.tenant_id, e.campaign_id, e.lead_id
    from {{ source('oltp', 'campaign_leads') }} as e
    inner join ({{ touched_campaign_leads() }}) as c on e.tenant_id = c.tenant_id and e.campaign_id = c.campaign_id
    where e._loaded >= (select min(s.touched) from {{ slices() }} as s where s.cause = 'oltp.campaign_leads')
    union
    select f.tenant_id, f.campaign_id, f.lead_id
    from {{ facts }} as f
    inner join ({{ rebilled_tenants() }}) as b on f.tenant_id = b.tenant_id
    where f.billing_id is null
    {%- endif %}
{%- endmacro %}

{# (tenant_id, lead_id) of the people with a touched message. #}
{% macro touched_people() -%}
    select tenant_id, lead_id
    from {{ ref('int_touched_messages') }}
    where campaign_id is not null and lead_id is not null
{%- endmacro %}

{# (tenant_id, mailbox_id, activity_date) of the warmup facts to recompute: the days of touched messages and the six after
   each, whose health looks back on them; open days of a changed plan; days that close; days without a window. #}
{% macro touched_warmups() -%}
    {{ touched_mailbox_days() }}
    union
    select f.tenant_id, f.mailbox_id, f.activity_date
    from {{ ref('int_warmup_days') }} as f
    inner join ({{ touched_mailbox_days() }}) as d
        on f.tenant_id = d.tenant_id and f.mailbox_id = d.mailbox_id
        and f.activity_date > d.activity_date and f.activity_date <= d.activity_date + 6
    where f.activity_date >= {{ online_from() }}
    {%- set facts = earlier('marts', 'warmup_analytics') -%}
    {%- if facts is not none %}
    union
    select f.tenant_id, f.mailbox_id, f.activity_date
    from {{ facts }} as f
    inner join ({{ touched_entities(['oltp.warmup_schedules']) }}) as e on f.tenant_id = e.tenant_id and f.mailbox_id = e.entity_id
    where f.activity_date > {{ as_of_date() }} - {{ var('final_after_days') }} and not f.is_final
    union
    select f.tenant_id, f.mailbox_id, f.activity_date
    from {{ facts }} as f
    inner join ({{ closing_days() }}) as d on f.tenant_id = d.tenant_id and f.activity_date = d.activity_date
    where not f.is_final
    union
    select f.tenant_id, f.mailbox_id, f.activity_date
    from {{ facts }} as f
    inner join ({{ rebilled_tenants() }}) as b on f.tenant_id = b.tenant_id
    where f.billing_id is null
    {%- endif %}
{%- endmacro %}

{# (tenant_id, campaign_id, event_hour) in which touched messages had events until now, or have them now. #}
{% macro touched_engagement_hours() -%}
    select tenant_id, campaign_id, event_hour
    from {{ ref('int_touched_hours') }}
    where event_hour >= {{ hours_from() }}
    union
    select e.tenant_id, e.campaign_id, date_trunc('hour', e.occurred)
    from ({{ touched_engagement() }}) as touched
    inner join {{ ref('int_engagement_events') }} as e on touched.tenant_id = e.tenant_id and touched.storage_key = e.storage_key
    where e.campaign_id is not null and e.is_counted and e.occurred >= {{ hours_from() }}
    union
    select m.tenant_id, m.campaign_id, date_trunc('hour', m.replied_time)
    from ({{ touched_replies() }}) as touched
    inner join {{ ref('int_messages') }} as m on touched.tenant_id = m.tenant_id and touched.storage_key = m.storage_key
    where m.campaign_id is not null and not m.is_warmup and m.replied_time >= {{ hours_from() }}
{%- endmacro %}

{# First hour that is kept: hourly facts live shorter than daily ones. #}
{% macro hours_from() -%}
    {{ utc_start("date_trunc('month', " ~ as_of_date() ~ ") - interval '" ~ var('hour_months') ~ " months'") }}
{%- endmacro %}

{# (tenant_id, recipient_pseudonym) of touched messages and of changed entries of the list. An entry for all tenants is about
   those that have the recipient already. Sources, not staging: what was deleted touches too. #}
{% macro touched_recipients() -%}
    select trace.tenant_id, trace.to_email as recipient_pseudonym
    from ({{ touched_messages() }}) as touched
    inner join {{ source('content', 'email_messages') }} as trace
        on touched.tenant_id = trace.tenant_id and touched.storage_key = trace.storage_key
    where trace.direction = 'outbound' and trace.to_email is not null
    union
    select listed.tenant_id, listed.email
    from ({{ touched_entities(['oltp.suppression_list']) }}) as e
    inner join {{ source('oltp', 'suppression_list') }} as listed on e.entity_id = listed.id
    where listed.tenant_id is not null
    {%- set facts = earlier('marts', 'suppression') -%}
    {%- if facts is not none %}
    union
    select f.tenant_id, f.recipient_pseudonym
    from ({{ touched_entities(['oltp.suppression_list']) }}) as e
    inner join {{ source('oltp', 'suppression_list') }} as listed on e.entity_id = listed.id
    inner join {{ facts }} as f on listed.email = f.recipient_pseudonym
    where listed.tenant_id is null
    {%- endif %}
{%- endmacro %}

{# (tenant_id, campaign_id, activity_date) and the same with the step, of campaign mail that changed. Unlike the facts of the marts
   these tables have no day that closes and no window. #}
{% macro touched_campaign_send_days() -%}
    select distinct tenant_id, campaign_id, activity_date
    from {{ ref('int_touched_messages') }}
    where campaign_id is not null and activity_date is not null
{%- endmacro %}

{% macro touched_step_send_days() -%}
    select distinct tenant_id, campaign_id, step_id, activity_date
    from {{ ref('int_touched_messages') }}
    where campaign_id is not null and activity_date is not null
{%- endmacro %}
