{# Views are made by CREATE OR REPLACE: readers never miss one, and views and grants on top of it stay. Where the columns
   changed so that Postgres refuses, the view and what stands on it are remade in one transaction. A view that already
   says the same is left alone: replacing it would wait for whoever reads it, and others would wait behind. #}
{% materialization view, adapter='postgres' -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- set target_relation = this.incorporate(type='view') -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- if config.get('contract').enforced %}{{ get_assert_columns_equivalent(sql) }}{% endif %}
    {% call statement('main') -%}
        {{ remake_sql(
            target_relation,
            'create or replace view ' ~ target_relation ~ (' with (security_barrier = true)' if config.get('security_barrier') else '') ~ ' as\n' ~ sql,
            try_first=true, query=sql) }}
    {%- endcall %}
    {% do apply_grants(target_relation, config.get('grants'), should_revoke=should_revoke(existing, full_refresh_mode=false)) %}
    {% do persist_docs(target_relation, model) %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target_relation]}) }}
{%- endmaterialization %}

{# One statement that makes a relation anew together with the views above it: their definitions, options and grants are
   read, they are dropped from the top down (never by cascade), and made again. A view above that no longer fits is left
   out; it is a model of ours, remade later in the same build.
   `try_first`: run `create` alone, and go the long way only when Postgres refuses to change the columns.
   `query`: do nothing when the view already says that.
   Whoever reads holds a lock that this has to wait for, and new readers queue behind the one who waits. So it waits for
   a moment only, gives up what it holds, and tries again for up to ten minutes. #}
{% macro remake_sql(relation, create, try_first, query=none) -%}
do $remake$
declare
  above record;
  stack jsonb[];
  found regclass := to_regclass('{{ relation.schema }}.{{ relation.identifier }}');
  layer integer;
  deadline timestamptz := clock_timestamp() + interval '10 minutes';
begin
  {% if query %}
  if (select relkind = 'v' from pg_class where oid = found) then
    execute $create$create temporary view penguin_wanted as
{{ query }}$create$;
    -- Compared as Postgres understood them: a `select *` sees the columns that are there now.
    if (
      select pg_get_viewdef(found) = pg_get_viewdef('pg_temp.penguin_wanted'::regclass)
        and array(select attname::text || atttypid::text from pg_attribute where attrelid = found and attnum > 0 order by attnum)
          = array(select attname::text || atttypid::text from pg_attribute
                  where attrelid = 'pg_temp.penguin_wanted'::regclass and attnum > 0 order by attnum)
        and coalesce('security_barrier=true' = any (reloptions), false) = {{ 'true' if config.get('security_barrier') else 'false' }}
      from pg_class where oid = found
    ) then
      drop view pg_temp.penguin_wanted;
      return;
    end if;
    drop view pg_temp.penguin_wanted;
  end if;
  {% endif %}
  perform set_config('lock_timeout', '200ms', true);
  <<attempts>>
  loop
  begin
  {% if try_first %}
  begin
    execute $create${{ create }}$create$;
    exit attempts;
  exception when invalid_table_definition or wrong_object_type then
    null;
  end;
  {% endif %}
  stack := '{}';
  found := to_regclass('{{ relation.schema }}.{{ relation.identifier }}');
  for above in
    with recursive users (oid, depth) as (
      select found::oid, 0
      union
      select r.ev_class, u.depth + 1
      from users as u
      join pg_depend as d on d.refobjid = u.oid and d.refclassid = 'pg_class'::regclass and d.classid = 'pg_rewrite'::regclass
      join pg_rewrite as r on r.oid = d.objid and r.ev_class <> u.oid
    )
    select format('%I.%I', n.nspname, c.relname) as name, c.relkind, max(u.depth) as depth,
      format('create %s %I.%I %s as %s', case c.relkind when 'm' then 'materialized view' else 'view' end, n.nspname, c.relname,
             coalesce('with (' || array_to_string(c.reloptions, ', ') || ')', ''), pg_get_viewdef(c.oid)) as definition,
      (select array_agg(format('grant %s on %I.%I to %I', a.privilege_type, n.nspname, c.relname, a.grantee::regrole))
       from aclexplode(c.relacl) as a where a.grantee not in (0, c.relowner)) as grants,
      (select array_agg(i.indexdef) from pg_indexes as i where i.schemaname = n.nspname and i.tablename = c.relname) as indexes,
      obj_description(c.oid, 'pg_class') as comment
    from users as u join pg_class as c on c.oid = u.oid join pg_namespace as n on n.oid = c.relnamespace
    group by c.oid, n.nspname, c.relname, c.relkind, c.reloptions, c.relacl, c.relowner
    order by max(u.depth) desc
  loop
    execute format('drop %s %s', case above.relkind when 'm' then 'materialized view' when 'v' then 'view' end, above.name);
    if above.depth > 0 then
      stack := to_jsonb(above) || stack;
    end if;
  end loop;
  execute $create${{ create }}$create$;
  for layer in 1 .. cardinality(stack) loop
    begin
      execute stack[layer] ->> 'definition';
      execute format('comment on %s %s is %L', case stack[layer] ->> 'relkind' when 'm' then 'materialized view' else 'view' end,
                     stack[layer] ->> 'name', stack[layer] ->> 'comment');
      for above in
        select value from jsonb_array_elements_text(
          case jsonb_typeof(stack[layer] -> 'indexes') when 'array' then stack[layer] -> 'indexes' else '[]' end
          || case jsonb_typeof(stack[layer] -> 'grants') when 'array' then stack[layer] -> 'grants' else '[]' end)
      loop
        execute above.value;
      end loop;
    exception when undefined_column or undefined_table or undefined_object or datatype_mismatch or undefined_function then
      null;
    end;
  end loop;
  exit attempts;
  exception when lock_not_available then
    if clock_timestamp() > deadline then
      raise;
    end if;
    perform pg_sleep(0.05 + random() / 10);
  end;
  end loop;
  perform set_config('lock_timeout', '0', true);
end
$remake$
{%- endmacro %}
