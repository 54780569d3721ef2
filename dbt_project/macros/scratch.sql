{# A dry run (lib/build_diff.py) builds changed models into schemas of its own beside the real ones: the prefix of their names
   comes from the environment and is empty in every other run. #}
{% macro scratch_prefix() -%}
    {{ return(env_var('PENGUIN_DBT_SCRATCH', '')) }}
{%- endmacro %}

{% macro is_scratch() -%}
    {{ return(scratch_prefix() != '') }}
{%- endmacro %}
