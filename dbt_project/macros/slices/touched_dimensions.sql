{# Keys of the dimensions whose source row changed. #}

{% macro touched_companies() -%}
    select tenant_id, entity_id as company_id from ({{ touched_entities(['oltp.companies']) }}) as e
{%- endmacro %}

{% macro touched_campaigns() -%}
    select tenant_id, entity_id as campaign_id from ({{ touched_entities(['oltp.campaigns']) }}) as e
{%- endmacro %}

{% macro touched_steps() -%}
    select tenant_id, entity_id as step_id from ({{ touched_entities(['oltp.campaign_sequence_steps']) }}) as e
    union
    select s.tenant_id, s.step_id
    from {{ ref('stg_oltp__campaign_sequence_steps') }} as s
    inner join ({{ touched_entities(['oltp.templates']) }}) as e on s.tenant_id = e.tenant_id and s.template_id = e.entity_id
{%- endmacro %}

{% macro touched_dim_mailboxes() -%}
    select tenant_id, entity_id as mailbox_id from ({{ touched_entities(['oltp.email_accounts']) }}) as e
    union
    select m.tenant_id, m.mailbox_id
    from {{ ref('int_mailboxes') }} as m
    inner join ({{ touched_entities(['oltp.domains']) }}) as e on m.tenant_id = e.tenant_id and m.domain_id = e.entity_id
{%- endmacro %}
