{# Schemas carry exactly the names of the contract, without the target's prefix; a dry run puts its own before them. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ scratch_prefix() }}{{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
