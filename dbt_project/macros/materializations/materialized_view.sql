{# Materialized views: refreshed concurrently, remade when their query changes, seen by dbt with their columns. #}

{# Needs a unique index on plain columns. Readers go on with the old rows. #}
{% macro postgres__refresh_materialized_view(relation) %}
    refresh materialized view {% if config.get('meta', {}).get('refresh_concurrently') %}concurrently{% endif %} {{ relation }}
{% endmacro %}

{# dbt compares indexes only, so a hash of the query stands in the comment: an edit is never ignored. A copy of the database
   under another name holds the same query. #}
{% macro matview_mark() -%}
    dbt_sql_md5={{ local_md5(model.compiled_code | replace(adapter.quote(this.database) ~ '.', '')) }}
{%- endmacro %}

{% macro postgres__get_create_materialized_view_as_sql(relation, sql) %}
    create materialized view if not exists {{ relation }} as {{ sql }};
    comment on materialized view {{ relation }} is '{{ matview_mark() }}';
    {% for index in config.get('indexes', []) -%}
        {{- get_create_index_sql(relation, index) -}};
    {%- endfor -%}
{% endmacro %}

{% macro postgres__get_materialized_view_configuration_changes(existing_relation, new_config) %}
    {% set found = run_query("select obj_description('" ~ existing_relation ~ "'::regclass, 'pg_class')").columns[0].values()[0] %}
    {% if found != matview_mark() %}
        {% do return({'requires_full_refresh': true}) %}
    {% endif %}
    {% set described = postgres__describe_materialized_view(existing_relation) %}
    {% do return(existing_relation.get_materialized_view_config_change_collection(described, new_config.model)) %}
{% endmacro %}

{# A new query is filled beside the old view, then takes its name with the views above it in one short statement.
   An index change also refreshes the data, which stock dbt forgets. #}
{% macro postgres__get_alter_materialized_view_as_sql(relation, configuration_changes, sql, existing_relation, backup_relation, intermediate_relation) %}
    {% if configuration_changes.requires_full_refresh %}
        {% set fresh = intermediate_relation.incorporate(type='materialized_view') %}
        {{ postgres__get_create_materialized_view_as_sql(fresh, sql) }}
        {{ remake_sql(existing_relation, 'alter materialized view ' ~ fresh ~ ' rename to ' ~ adapter.quote(relation.identifier), try_first=false) }};
    {% else %}
        {{ postgres__update_indexes_on_materialized_view(relation, configuration_changes.indexes) }};
        {{ postgres__refresh_materialized_view(relation) }};
    {% endif %}
{% endmacro %}

{# information_schema knows no materialized view; without this, unit tests, schemas and lineage on one fail. #}
{% macro postgres__get_columns_in_relation(relation) -%}
    {% call statement('get_columns_in_relation', fetch_result=True) %}
        select
            a.attname as column_name,
            format_type(a.atttypid, null) as data_type,
            case when a.atttypid in ('varchar'::regtype, 'bpchar'::regtype) and a.atttypmod > 0 then a.atttypmod - 4 end as character_maximum_length,
            case when a.atttypid = 'numeric'::regtype and a.atttypmod > 0 then ((a.atttypmod - 4) >> 16) & 65535 end as numeric_precision,
            case when a.atttypid = 'numeric'::regtype and a.atttypmod > 0 then (a.atttypmod - 4) & 65535 end as numeric_scale
        from pg_attribute as a
        where a.attrelid = to_regclass('{{ relation.include(database=false) }}') and a.attnum > 0 and not a.attisdropped
        order by a.attnum
    {% endcall %}
    {{ return(sql_convert_columns_in_relation(load_result('get_columns_in_relation').table)) }}
{%- endmacro %}
