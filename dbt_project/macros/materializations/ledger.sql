{# Incremental strategy `ledger`: appends what the model gives and changes nothing that stands there. The model itself leaves
   out what it has posted before, so a build that is repeated appends nothing. #}
{% macro get_incremental_ledger_sql(arg_dict) -%}
    {%- set names = arg_dict['temp_columns'] | map(attribute='name') | join(', ') -%}
    insert into {{ arg_dict['target_relation'] }} ({{ names }})
    select {{ names }} from {{ arg_dict['temp_relation'] }};
{%- endmacro %}
