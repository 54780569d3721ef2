{# Which keys a build must recompute. A build reads the slices that it claimed, named by the setting that lib/build.py
   gives the session; by hand, all that wait. #}

{% macro slices() -%}
    (
        select * from {{ source('ops', 'touched_slices') }}
        where coalesce(current_setting('penguin.build_id', true), '') in ('', build_id::text)
    )
{%- endmacro %}

{# True when this build recomputes everything: somebody asked for it, or there is nothing yet.
   `relation` is the table to look at, the model's own by default. #}
{% macro is_full_build(relation=none) -%}
    {#- While parsing, the incremental branch is the one that names every ref. -#}
    {%- if not execute -%}{{ return(false) }}{%- endif -%}
    {%- if is_scratch() -%}{{ return(true) }}{%- endif -%}
    {%- set table = relation or this -%}
    {%- if adapter.get_relation(database=target.database, schema=table.schema, identifier=table.identifier) is none -%}{{ return(true) }}{%- endif -%}
    {%- set found = run_query(
        "select exists (select from " ~ slices() ~ " as s where s.kind = 'all') or not exists (select from " ~ table ~ ")") -%}
    {{ return(found.columns[0].values()[0]) }}
{%- endmacro %}

{# The keys that the model at hand recomputes, by the macro that its `touched` names. Found once and kept in a table of the
   transaction, which its query and its deletion read (keep_touched in slices.sql). Where no model is built, the query itself. #}
{% macro touched_keys(touched) -%}
    {%- if execute and model.resource_type == 'model' and flags.WHICH in ('build', 'run') -%}
    select * from {{ touched_table() }}
    {%- else -%}
    select distinct * from ({{ touched() }}) as t
    {%- endif -%}
{%- endmacro %}

{% macro touched_table() -%}
    pg_temp.{{ adapter.quote(this.identifier ~ '__touched') }}
{%- endmacro %}

{# A table that a model reads as it was before the build; a ref would close a circle. None when it does not exist yet. #}
{% macro earlier(schema, identifier) -%}
    {{ return(adapter.get_relation(database=target.database, schema=schema, identifier=identifier) if execute else none) }}
{%- endmacro %}

{# (tenant_id, storage_key) of the messages to recompute, some more than once: all that it was and is has a row of its own. They lie
   in the order of the tables they are looked up in. #}
{% macro touched_messages() -%}
    select tenant_id, storage_key from {{ ref('int_touched_messages') }}
    where storage_key is not null
{%- endmacro %}

{# The same, of those whose opens and clicks, replies or reports of bounces may be others now or be booked elsewhere: that of a
   message itself, and of what is not known to leave them as they are. #}
{% macro touched_engagement() -%}
    select tenant_id, storage_key from {{ ref('int_touched_messages') }}
    where storage_key is not null and may_change_engagement
{%- endmacro %}

{% macro touched_replies() -%}
    select tenant_id, storage_key from {{ ref('int_touched_messages') }}
    where storage_key is not null and may_change_replies
{%- endmacro %}

{% macro touched_bounces() -%}
    select tenant_id, storage_key from {{ ref('int_touched_messages') }}
    where storage_key is not null and may_change_bounces
{%- endmacro %}

{# Causes of slices that concern a message's events and are not about events of these tables. #}
{% macro other_events(tables) -%}
    {%- set causes = ['time.silence'] -%}
    {%- for table in ['email_opens', 'email_clicks', 'email_replies', 'email_bounces', 'email_unsubscribes', 'email_complaints', 'warmup_interactions']
        if table not in tables -%}
        {%- do causes.append('content.' ~ table) -%}
    {%- endfor -%}
    {{ return(causes) }}
{%- endmacro %}

{# Rows of a model that belong to the messages to recompute. #}
{% macro of_touched_messages(model, full, touched=touched_messages) -%}
    select e.* from {{ ref(model) }} as e
    {%- if not full %}
    inner join ({{ touched_keys(touched) }}) as touched
        on e.tenant_id = touched.tenant_id and e.storage_key = touched.storage_key
    {%- endif %}
{%- endmacro %}

{# Messages of the keys to recompute, summed: the caller's block holds the sums over `m`. `touched` is the macro that renders the keys,
   `held` the expression of a key that is no column, `by` what else the sums are grouped by, `joins` what that needs.
   By index for each key: how few are touched is hard to foresee over several columns, and a join may go through all messages
   instead. Summed key by key, the messages are neither sorted nor kept. #}
{% macro summed_messages(keys, touched, where='true', by={}, held={}, joins='') -%}
    {%- set full = is_full_build() -%}
    {%- set places = [] -%}
    {%- for key in keys %}{% do places.append(held.get(key, 'm.' ~ key)) %}{% endfor -%}
    select
        {%- for key in keys %}
        {{ places[loop.index0] ~ ' as ' if full else 'touched.' }}{{ key }},
        {%- endfor %}
    {%- if not full %}
        summed.*
    from ({{ touched_keys(touched) }}) as touched
    cross join lateral (
        select
    {%- endif %}
        {%- for name, expression in by.items() %}
        {{ expression }} as {{ name }},
        {%- endfor %}
        {{ caller() }}
    from {{ ref('int_messages') }} as m
    {{ joins }}
    where {{ where }}
    {%- if full %}
    group by {{ (places + by.values() | list) | join(', ') }}
    {%- else %}
        {%- for key in keys %} and {{ places[loop.index0] }} = touched.{{ key }}{% endfor %}
        {{ 'group by ' ~ by.values() | join(', ') if by else 'having count(*) > 0' }}
    ) as summed
    {%- endif %}
{%- endmacro %}

{# The touched days of mailboxes and so many before each, from which health is computed. #}
{% macro with_days_before(count) -%}
    select
        touched.tenant_id,
        touched.mailbox_id,
        touched.activity_date - back.n as activity_date,
        bool_or(back.n = 0) as is_touched
    from touched
    cross join generate_series(0, {{ count }}) as back (n)
    group by touched.tenant_id, touched.mailbox_id, touched.activity_date - back.n
{%- endmacro %}

{# Ids of changed rows of other tables: (tenant_id, entity_id); entity_id null means every row of the tenant. #}
{% macro touched_entities(causes) -%}
    select distinct tenant_id, entity_id from {{ slices() }} as s
    where s.kind = 'entity' and s.cause in ({% for cause in causes %}'{{ cause }}'{{ ', ' if not loop.last }}{% endfor %})
{%- endmacro %}

{# (tenant_id, activity_date) that time itself has closed. #}
{% macro closing_days() -%}
    select distinct tenant_id, activity_date from {{ slices() }} as s
    where s.kind = 'entity' and s.cause = 'time.final'
{%- endmacro %}

{# Tenants for whom a usage window may have begun; their rows without one get it now. #}
{% macro rebilled_tenants() -%}
    select distinct tenant_id from ({{ touched_entities(['oltp.subscriptions', 'oltp.subscription_changes', 'time.window']) }}) as e
{%- endmacro %}

{# (tenant_id, campaign_id, step_id, activity_date) of the step facts to recompute. #}
{% macro touched_step_days() -%}
    select tenant_id, campaign_id, step_id, activity_date
    from {{ ref('int_touched_messages') }}
    where campaign_id is not null and activity_date >= {{ online_from() }}
    {%- if execute and earlier('marts', 'sequence_step_analytics') is not none %}
    union
    select f.tenant_id, f.campaign_id, f.step_id, f.activity_date
    from {{ earlier('marts', 'sequence_step_analytics') }} as f
    inner join ({{ closing_days() }}) as d on f.tenant_id = d.tenant_id and f.activity_date = d.activity_date
    where not f.is_final
    union
    select f.tenant_id, f.campaign_id, f.step_id, f.activity_date
    from {{ earlier('marts', 'sequence_step_analytics') }} as f
    inner join ({{ touched_entities(['oltp.campaign_sequence_steps']) }}) as e on f.tenant_id = e.tenant_id and f.step_id = e.entity_id
    union
    select f.tenant_id, f.campaign_id, f.step_id, f.activity_date
    from {{ earlier('marts', 'sequence_step_analytics') }} as f
    inner join ({{ rebilled_tenants() }}) as b on f.tenant_id = b.tenant_id
    where f.billing_id is null
    {%- endif %}
{%- endmacro %}

{# (tenant_id, campaign_id, activity_date) of the campaign facts to recompute. #}
{% macro touched_campaign_days() -%}
    select tenant_id, campaign_id, activity_date from ({{ touched_step_days() }}) as steps
    {%- if execute and earlier('marts', 'campaign_analytics') is not none %}
    union
    select f.tenant_id, f.campaign_id, f.activity_date
    from {{ earlier('marts', 'campaign_analytics') }} as f
    inner join ({{ touched_entities(['oltp.campaigns', 'oltp.campaign_leads']) }}) as e on f.tenant_id = e.tenant_id and f.campaign_id = e.entity_id
    union
    select f.tenant_id, f.campaign_id, f.activity_date
    from {{ earlier('marts', 'campaign_analytics') }} as f
    inner join ({{ closing_days() }}) as d on f.tenant_id = d.tenant_id and f.activity_date = d.activity_date
    where not f.is_final
    {%- endif %}
{%- endmacro %}

{# (tenant_id, campaign_id) whose enrolments changed. #}
{% macro touched_enrolments() -%}
    {{ touched_entities(['oltp.campaign_leads']) }}
{%- endmacro %}

{% macro touched_campaign_leads() -%}
    select tenant_id, entity_id as campaign_id from ({{ touched_enrolments() }}) as e
{%- endmacro %}

{# (tenant_id, mailbox_id, activity_date) of the mailbox days whose messages changed. #}
{% macro touched_mailbox_days() -%}
    select distinct tenant_id, mailbox_id, activity_date
    from {{ ref('int_touched_messages') }}
    where activity_date >= {{ online_from() }}
{%- endmacro %}

{# The same with everything else that a mailbox fact shows: health of the days after, limits and plans of open days. #}
{% macro touched_mailboxes() -%}
    {{ touched_mailbox_days() }}
    union
    select f.tenant_id, f.mailbox_id, f.activity_date
    from {{ ref('int_mailbox_days') }} as f
    inner join ({{ touched_mailbox_days() }}) as d
        on f.tenant_id = d.tenant_id and f.mailbox_id = d.mailbox_id
        and f.activity_date > d.activity_date and f.activity_date <= d.activity_date + 13
    {%- if execute and earlier('marts', 'mailbox_analytics') is not none %}
    union
    select f.tenant_id, f.mailbox_id, f.activity_date
    from {{ earlier('marts', 'mailbox_analytics') }} as f
    inner join ({{ touched_entities(['oltp.email_accounts', 'oltp.warmup_schedules']) }}) as e on f.tenant_id = e.tenant_id and f.mailbox_id = e.entity_id
    where f.activity_date > {{ as_of_date() }} - {{ var('final_after_days') }} and not f.is_final
    union
    select f.tenant_id, f.mailbox_id, f.activity_date
    from {{ earlier('marts', 'mailbox_analytics') }} as f
    inner join ({{ closing_days() }}) as d on f.tenant_id = d.tenant_id and f.activity_date = d.activity_date
    where not f.is_final
    union
    select f.tenant_id, f.mailbox_id, f.activity_date
    from {{ earlier('marts', 'mailbox_analytics') }} as f
    inner join ({{ rebilled_tenants() }}) as b on f.tenant_id = b.tenant_id
    where f.billing_id is null
    {%- endif %}
{%- endmacro %}

{# Tenants about whom anything changed; a change of the price list is about all of them. #}
{% macro touched_tenants() -%}
    select t.tenant_id
    from {{ ref('stg_oltp__tenants') }} as t
    {%- if not is_full_build() %}
    where exists (select from {{ slices() }} as s where s.cause = 'oltp.plans')
        or t.tenant_id in (select s.tenant_id from {{ slices() }} as s where s.tenant_id is not null)
        or t.tenant_id in (select s.entity_id from {{ slices() }} as s where s.cause = 'oltp.tenants')
    {%- endif %}
{%- endmacro %}
