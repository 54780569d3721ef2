{{ config(materialized='view', grants={'select': ['pm_analyst', 'pm_staff', 'pm_app']}) }}

-- As of when each mart holds: the oldest of the sources that it is computed from, found by walking the graph up. All tables
-- of a source are read in one snapshot, and one in which nothing happened keeps its bookmark: the latest of a source counts.
{%- set rows = [] %}
{%- for node in graph.nodes.values() if execute and node.resource_type == 'model' and node.fqn[1] == 'marts' and node.name != model.name %}
    {%- for source in upstream_sources(node) %}{% do rows.append("('" ~ node.alias ~ "', '" ~ source ~ "')") %}{% endfor %}
{%- endfor %}
with marts as (

    select mart, source_table, split_part(source_table, '.', 1) as source
    from (values {{ (rows or ["('', '')"]) | sort | join(', ') }}) as upstream (mart, source_table)

),

reads as (

    select source, max(source_read) as source_read
    from {{ source('ops', 'bookmarks') }}
    group by source

)

select
    marts.mart,
    min(reads.source_read) as data_as_of,
    array_agg(marts.source_table order by marts.source_table) as sources
from marts
left join reads on marts.source = reads.source
group by marts.mart
