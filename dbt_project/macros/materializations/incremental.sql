{# Incremental models whose columns are those of their table skip the stock comparison of schemas: through the adapter each look
   at columns makes a whole context of macros anew, seven times a model, which costs more than the rows of most builds.
   Everything else (the first build, a full refresh, columns that came or changed) goes the stock way. #}
{% materialization incremental, adapter='postgres' -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- if existing is none or existing.is_view or should_full_refresh() -%}
        {{ return(dbt.materialization_incremental_default()) }}
    {%- endif -%}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set temp = make_temp_relation(target_relation) -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {% if config.get('incremental_strategy') == 'slices' %}{{ keep_touched() }}{% endif %}
    {% do run_query(get_create_table_as_sql(True, temp, sql)) %}
    {%- set columns = get_columns_in_relation(temp) -%}
    {%- set there = get_columns_in_relation(existing) -%}
    {%- if not has_all(there, columns) -%}
        {% do adapter.expand_target_column_types(from_relation=temp, to_relation=target_relation) %}
        {% do process_schema_changes(config.get('on_schema_change', 'ignore'), temp, existing) %}
        {%- set there = get_columns_in_relation(existing) -%}
    {%- endif -%}
    {%- set strategy = adapter.get_incremental_strategy_macro(context, config.get('incremental_strategy') or 'default') -%}
    {% call statement('main') %}
        {{ strategy({
            'target_relation': target_relation, 'temp_relation': temp, 'unique_key': config.get('unique_key'),
            'dest_columns': there, 'temp_columns': columns, 'incremental_predicates': none,
        }) }}
    {% endcall %}
    {% do apply_grants(target_relation, config.get('grants'), should_revoke=should_revoke(existing, false)) %}
    {% do persist_docs(target_relation, model) %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target_relation]}) }}
{%- endmaterialization %}

{# Whether every column is among those that are there, with its type. #}
{% macro has_all(there, columns) -%}
    {%- set types = {} -%}
    {%- for column in there %}{% do types.update({column.name: column.data_type}) %}{% endfor -%}
    {%- set odd = [] -%}
    {%- for column in columns if types.get(column.name) != column.data_type %}{% do odd.append(column.name) %}{% endfor -%}
    {{ return(not odd) }}
{%- endmacro %}

{# What dbt remembers of a schema, without partitions: nothing asks for one by name, and every look goes through all of them. #}
{% macro postgres__list_relations_without_caching(schema_relation) -%}
    {% call statement('list_relations_without_caching', fetch_result=True) %}
        select
            '{{ schema_relation.database }}' as database,
            c.relname as name,
            n.nspname as schema,
            case c.relkind when 'v' then 'view' when 'm' then 'materialized_view' else 'table' end as type
        from pg_class as c
        inner join pg_namespace as n on c.relnamespace = n.oid
        where n.nspname = lower('{{ schema_relation.schema }}') and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
    {% endcall %}
    {{ return(load_result('list_relations_without_caching').table) }}
{%- endmacro %}
