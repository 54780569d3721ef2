{# The rows of a mart view that belong to the tenant of the transaction; none without one. Made as a security barrier view
   (dbt_project.yml), so that no function of a query sees a row of somebody else. #}
{% macro tenant_view(model) -%}
    select *
    from {{ ref(model) }}
    where tenant_id = penguin.current_tenant()
{%- endmacro %}
