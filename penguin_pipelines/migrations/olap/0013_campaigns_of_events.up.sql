-- Events carry the campaign and the mailbox of their message, so that hours are found by index. dbt owns that table: what is
-- there is dropped, and the next build makes everything anew.
-- When: before the deploy. Locks: ACCESS EXCLUSIVE on the table for a moment; a build waits for it, readers of marts do not.

do $$
declare
  surplus regclass;
begin
  if to_regclass('intermediate.int_engagement_events') is not null then
    drop table intermediate.int_engagement_events;
    insert into ops.touched_slices (kind, cause) values ('all', 'columns of events');
  end if;
  for surplus in
    select indexrelid::regclass
    from pg_index
    where indrelid = to_regclass('intermediate.int_messages') and (
      pg_get_indexdef(indexrelid) like '%(tenant_id, campaign_id, step_id, activity_date)'
      or pg_get_indexdef(indexrelid) like '%(tenant_id, replied_time) %'
    )
  loop
    execute format('drop index %s', surplus);
  end loop;
end
$$;
