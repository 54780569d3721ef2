-- Drops the table of events as it is with the campaign; the next build makes it without.

do $$
begin
  if to_regclass('intermediate.int_engagement_events') is not null then
    drop table intermediate.int_engagement_events;
    insert into ops.touched_slices (kind, cause) values ('all', 'columns of events');
  end if;
end
$$;
