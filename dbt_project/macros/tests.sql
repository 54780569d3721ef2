{# Tests run after every build. On an incremental build they look at what was touched, so their cost grows with the change;
   a condition is written as a mark in `where` and filled in here, for a `where` may not call macros. #}

{# Decided before the query is written, not by an OR inside it, which would read the whole table whatever was touched. #}
{% macro touched_days_only(alias) -%}
    {%- if everything_is_touched_now() -%}
    true
    {%- else -%}
    ({{ alias }}.tenant_id, {{ alias }}.activity_date)
    in (select t.tenant_id, t.activity_date from {{ ref('int_touched_messages') }} as t)
    {%- endif -%}
{%- endmacro %}

{# The rows of a large table under the touched keys, each looked up by index as in summed_messages; the keys in order, because
   pages that hold neighbours are read once. #}
{% macro touched_rows(name, keys) -%}
    {%- if everything_is_touched_now() -%}
    select * from {{ ref(name) }}
    {%- else -%}
    select r.*
    from (
        select distinct {{ keys | join(', ') }} from {{ ref('int_touched_messages') }} order by {{ keys | join(', ') }}
    ) as touched
    cross join lateral (
        select * from {{ ref(name) }} as r
        where {% for key in keys %}r.{{ key }} = touched.{{ key }}{{ ' and ' if not loop.last }}{% endfor %}
        offset 0
    ) as r
    {%- endif -%}
{%- endmacro %}

{% macro everything_is_touched_now() -%}
    {{ return(run_query('select ' ~ everything_is_touched()).columns[0].values()[0] if execute else false) }}
{%- endmacro %}

{# The names of the counters of `a` that differ from those of `b`, as a condition. #}
{% macro counters_differ(a, b) -%}
    ({% for name in counter_names() %}coalesce({{ a }}.{{ name }}, 0){{ ', ' if not loop.last }}{% endfor %})
    is distinct from
    ({% for name in counter_names() %}coalesce({{ b }}.{{ name }}, 0){{ ', ' if not loop.last }}{% endfor %})
{%- endmacro %}

{% macro get_where_subquery(relation) -%}
    {%- set where = config.get('where', '') -%}
    {%- if where == 'touched days' -%}
        {%- set where = '(tenant_id, activity_date) in (select tenant_id, activity_date from intermediate.int_touched_messages)' -%}
    {%- elif where == 'touched messages' -%}
        {%- set where = '(tenant_id, storage_key) in (select tenant_id, storage_key from intermediate.int_touched_messages)' -%}
    {%- endif -%}
    {%- if where and execute -%}
        {%- if where.startswith('(tenant_id') and everything_is_touched_now() -%}{%- set where = 'true' -%}{%- endif -%}
        (select * from {{ relation }} where {{ where }}) as dbt_subquery
    {%- else -%}
        {{ relation }}
    {%- endif -%}
{%- endmacro %}

{# A rebuild, or checks that were asked for by themselves (`checking` in lib/build.py): what was touched is no measure there. #}
{% macro everything_is_touched() -%}
    current_setting('penguin.check_everything', true) = 'on' or exists (
        select from ops.touched_slices
        where kind = 'all' and coalesce(current_setting('penguin.build_id', true), '') in ('', build_id::text)
    )
{%- endmacro %}

{# Where Postgres refuses two such rows, it is enough that it does. #}
{% test unique_together(model, columns) %}
{%- if is_unique_by_index(model, columns) %}
select 'two rows' as failure where false
{%- else %}
select {{ columns | join(', ') }}
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1
{%- endif %}
{% endtest %}

{# Whether a whole, valid unique index stands on exactly these columns, in any order, to which no null is an exception. #}
{% macro is_unique_by_index(relation, columns) -%}
    {%- set found = run_query("
        select exists (
            select from pg_index as i
            where i.indrelid = to_regclass('" ~ relation ~ "') and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
                and (
                    select array_agg(a.attname::text order by a.attname::text) from pg_attribute as a
                    where a.attrelid = i.indrelid and a.attnum = any (i.indkey)
                ) = (select array_agg(name order by name) from unnest(array['" ~ columns | join("', '") ~ "']) as wanted (name))
                and (i.indnullsnotdistinct or not exists (
                    select from pg_attribute as a where a.attrelid = i.indrelid and a.attnum = any (i.indkey) and not a.attnotnull
                ))
        )") if execute else none -%}
    {{ return(found.columns[0].values()[0] if found else false) }}
{%- endmacro %}

{% test equal_their_days(model, days, keys) %}
{%- set everything = everything_is_touched_now() %}
{%- set month = month_of('f.activity_date') %}
with touched as (

    select distinct tenant_id, {{ month_of('activity_date') }} as month
    from {{ ref('int_touched_messages') }}
    where activity_date >= {{ online_from() }}

),

days as (

    select {{ month }} as month, {% for key in keys %}f.{{ key }}, {% endfor %}{{ message_counters('f') }}
    from {{ ref(days) }} as f
    {%- if everything %}
    where f.activity_date >= {{ online_from() }}
    {%- else %}
    inner join touched
        on f.tenant_id = touched.tenant_id
        and f.activity_date >= touched.month and f.activity_date <= {{ last_day_of('touched.month') }}
    {%- endif %}
    group by {{ month }}{% for key in keys %}, f.{{ key }}{% endfor %}

),

months as (

    select m.*
    from {{ model }} as m
    where m.month >= {{ online_from() }}
        {%- if not everything %}
        and (m.tenant_id, m.month) in (select touched.tenant_id, touched.month from touched)
        {%- endif %}

)

select coalesce(months.tenant_id, days.tenant_id) as tenant_id, coalesce(months.month, days.month) as month
from days
full join months
    on days.month = months.month{% for key in keys %} and days.{{ key }} = months.{{ key }}{% endfor %}
where {{ counters_differ('months', 'days') }}

union all

select m.tenant_id, m.month
from {{ model }} as m
where m.month >= {{ online_from() }} and m.is_final is distinct from {{ is_final(last_day_of('m.month')) }}
{% endtest %}

{% test become_final(model) %}
select f.tenant_id, f.activity_date
from {{ model }} as f
where not f.is_final and {{ is_final('f.activity_date') }} and f.activity_date >= {{ online_from() }}
{% endtest %}
