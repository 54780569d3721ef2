-- Closed usage windows cannot be changed; what late events would have changed goes to an append-only ledger.
-- When: before the deploy. Locks: SHARE ROW EXCLUSIVE on marts.billing_analytics for a moment; readers do not wait.

create table marts.billing_corrections (
  id bigint generated always as identity,
  tenant_id uuid not null,
  billing_id bigint not null,
  period_start timestamptz not null,
  period_end timestamptz not null,
  counter text not null,
  entry integer not null,
  old_value bigint not null,
  new_value bigint not null,
  delta bigint not null generated always as (new_value - old_value) stored,
  cause text not null,
  noticed timestamptz not null,
  build_id uuid,
  created timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, period_start, period_end, counter, entry),
  constraint billing_corrections_counter_allowed check (counter in ('emails_sent', 'mailboxes_used', 'campaigns_used', 'mrr_cents')),
  constraint billing_corrections_rule_1 check (new_value <> old_value)
);
comment on table marts.billing_corrections is 'Ledger of what late events would have changed in a closed usage window. Reported, never re-billed.';
comment on column marts.billing_corrections.billing_id is 'the closed window in billing_analytics';
comment on column marts.billing_corrections.counter is 'column of billing_analytics';
comment on column marts.billing_corrections.entry is '1 for the first correction of this counter of this window, then counted up';
comment on column marts.billing_corrections.old_value is 'figure of the closed window with all earlier corrections';
comment on column marts.billing_corrections.new_value is 'what is counted now';
comment on column marts.billing_corrections.cause is 'source tables that changed, as the touched slices name them';
comment on column marts.billing_corrections.noticed is 'clock of the build that noticed it';
comment on column marts.billing_corrections.build_id is 'build that posted it; null for a build of a part';
comment on column marts.billing_corrections.created is 'row creation time, UTC';
select penguin.protect('marts.billing_corrections', 'tenant_isolation');
revoke update, delete on marts.billing_corrections from pm_etl;
create trigger refuse_change before update or delete on marts.billing_corrections for each row execute function penguin.refuse_change();
create trigger refuse_truncate before truncate on marts.billing_corrections for each statement execute function penguin.refuse_change();

-- The promise that a closed window never changes is kept by the table itself, whatever a model says.
create function penguin.refuse_change_of_closed_window() returns trigger language plpgsql as $$
begin
  raise exception 'The usage window of tenant % from % is closed and never changes; post a row to marts.billing_corrections instead.',
    old.tenant_id, old.period_start;
end
$$;
create trigger refuse_change_of_closed_window before update on marts.billing_analytics
for each row when (old.is_final) execute function penguin.refuse_change_of_closed_window();
