{# Incremental strategy `slices`: fills a table that exists (of the migrations, or dbt's own) by touched keys.

   Config
     unique_key       columns of the unique key, the target of ON CONFLICT
     touched          name of the macro that renders the touched keys; its columns are all of unique_key or a prefix of it
     nullable_keys    those of unique_key that may be null; compared null-safe, which no hash join can do, so only these
     partition_date   date column of a table cut by month; partitions that are missing are made first
     online_date      date column of a table that is not cut; rows older than what is online stay as well
     frozen_columns   snapshots, kept as they are once the row is_final
     keep_when        condition on the target row `t`: a row that left the result stays while it holds

   One transaction: readers see the old rows until the new ones commit, and a row that is equal is not written. #}
{% macro get_incremental_slices_sql(arg_dict) -%}
    {%- set target = arg_dict['target_relation'] -%}
    {%- set temp = arg_dict['temp_relation'] -%}
    {%- set keys = config.require('unique_key') -%}
    {%- set names = arg_dict['temp_columns'] | map(attribute='name') | list -%}
    analyze {{ temp }} ({{ keys | join(', ') }});
    {% if config.get('partition_date') and not is_scratch() %}{{ missing_partitions_sql(target, temp, config.get('partition_date')) }}{% endif %}
    {{ vanished_sql(target, temp, keys) }}
    {{ upsert_sql(target, temp, keys, names, arg_dict['dest_columns'] | map(attribute='name') | list) }}
{%- endmacro %}

{% macro same_key(other, key) -%}
    t.{{ key }} {{ 'is not distinct from' if key in (config.get('nullable_keys') or []) else '=' }} {{ other }}.{{ key }}
{%- endmacro %}

{% macro missing_partitions_sql(target, temp, column) -%}
    select count(penguin.create_range_partitions('{{ target.schema }}.{{ target.identifier }}', 'monthly', month, month))
    from (select distinct date_trunc('month', {{ column }})::date as month from {{ temp }}) as months
    where to_regclass(format('%I.%I', '{{ target.schema }}', '{{ target.identifier }}_' || to_char(month, 'YYYYMM'))) is null;
{%- endmacro %}

{# Deletes by the touched keys, never by those of the result: a slice whose last row vanished has none there. The rows to delete
   are found first, by index for each touched key, and counted: the planner expects one row of several columns, and would look
   through the result, or the table, for each that there is. #}
{% macro vanished_sql(target, temp, keys) -%}
    {%- set full = is_full_build() -%}
    {%- set prefix = config.get('touched_by') -%}
    {%- if not full %}
    create temporary table {{ vanished_table() }} on commit drop as
    select t.* from {{ touched_table() }} as {{ 'touched' if prefix else 't' }}
    {%- if prefix %}
    cross join lateral (
        select {{ keys | join(', ') }} from {{ target }} as t
        where {% for key in prefix %}{{ same_key('touched', key) }}{{ ' and ' if not loop.last }}{% endfor %}
        offset 0
    ) as t
    {%- endif %}
    where {{ has_no_row(temp, keys) }};
    analyze {{ vanished_table() }};
    {%- endif %}
    delete from {{ target }} as t
    {%- if full %}
    where {{ has_no_row(temp, keys) }}
    {%- else %}
    using {{ vanished_table() }} as vanished
    where {% for key in keys %}{{ same_key('vanished', key) }}{{ ' and ' if not loop.last }}{% endfor %}
    {%- endif %}
    {%- set dated = config.get('partition_date') or config.get('online_date') %}
    {%- if dated %} and t.{{ dated }} >= {{ online_from() }}{% endif %}
    {%- if config.get('keep_when') %} and not ({{ config.get('keep_when') }}){% endif %};
{%- endmacro %}

{% macro vanished_table() -%}
    pg_temp.{{ adapter.quote(this.identifier ~ '__vanished') }}
{%- endmacro %}

{# The touched keys, in the order of the tables they are looked up in: pages that hold neighbours are read once. #}
{% macro keep_touched() -%}
    {%- if not is_full_build() %}
    {% call statement('keep_touched') -%}
        create temporary table {{ touched_table() }} on commit drop as
        select distinct * from ({{ context[config.require('touched')]() }}) as t
        order by {{ (config.get('touched_by') or config.require('unique_key')) | join(', ') }};
        analyze {{ touched_table() }};
    {%- endcall %}
    {%- endif %}
{%- endmacro %}

{% macro has_no_row(temp, keys) -%}
    not exists (
        select from {{ temp }} as s
        where {% for key in keys %}{{ same_key('s', key) }}{{ ' and ' if not loop.last }}{% endfor %}
    )
{%- endmacro %}

{% macro upsert_sql(target, temp, keys, names, in_target) -%}
    {%- set values = names | reject('in', keys) | list -%}
    {%- set frozen = config.get('frozen_columns') or [] -%}
    insert into {{ target }} as t ({{ names | join(', ') }})
    select {{ names | join(', ') }} from {{ temp }}
    on conflict ({{ keys | join(', ') }})
    {%- if values %} do update set
        {% for name in values -%}
        {{ name }} = {{ frozen_value(name, frozen) }}{{ ', ' if not loop.last }}
        {%- endfor %}
        {%- if 'updated' in in_target and 'updated' not in names %}, updated = now(){% endif %}
    where ({% for name in values %}t.{{ name }}{{ ', ' if not loop.last }}{% endfor %})
        is distinct from ({% for name in values %}{{ frozen_value(name, frozen) }}{{ ', ' if not loop.last }}{% endfor %})
    {%- else %} do nothing{% endif %};
{%- endmacro %}

{% macro frozen_value(name, frozen) -%}
    {%- if name in frozen -%}case when t.is_final then t.{{ name }} else excluded.{{ name }} end
    {%- else -%}excluded.{{ name }}{%- endif -%}
{%- endmacro %}

{# Tables of the marts belong to the migrations: dbt may neither widen their columns nor want to. Elsewhere in place: the
   stock macro drops the column with all that stands on it. #}
{% macro postgres__alter_column_type(relation, column_name, new_column_type) -%}
    {%- if not relation.schema.endswith('marts') -%}
        {% call statement('alter_column_type') -%}
            alter table {{ relation }} alter column {{ adapter.quote(column_name) }} type {{ new_column_type }}
        {%- endcall %}
    {%- endif -%}
{%- endmacro %}
