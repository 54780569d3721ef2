{# Names `source.table` of the raw tables that a node is computed from, however far up. #}
{% macro upstream_sources(node) -%}
    {%- set waiting, seen, found = [node.unique_id], [], [] -%}
    {%- for _ in range(5000) -%}
        {%- set id = waiting.pop() if waiting else none -%}
        {%- if id and id not in seen -%}
            {%- do seen.append(id) -%}
            {%- if id.startswith('source.') -%}
                {%- set source = graph.sources[id] -%}
                {%- if source.source_name not in ('ops', 'marts') -%}{%- do found.append(source.source_name ~ '.' ~ source.name) -%}{%- endif -%}
            {%- elif id in graph.nodes -%}
                {%- do waiting.extend(graph.nodes[id].depends_on.nodes) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found | sort) }}
{%- endmacro %}
