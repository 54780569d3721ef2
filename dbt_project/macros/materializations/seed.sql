{# A seed is emptied by DELETE, in the transaction that fills it again: TRUNCATE would wait for everyone who reads a view on
   it, and keep everyone else waiting behind. #}
{% macro postgres__reset_csv_table(model, full_refresh, old_relation, agate_table) -%}
    {%- set sql -%} delete from {{ old_relation }} {%- endset -%}
    {%- call statement('empty_seed') -%} {{ sql }} {%- endcall -%}
    {{ return(sql) }}
{%- endmacro %}
