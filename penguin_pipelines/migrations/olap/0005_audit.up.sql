-- Append-only record of staff actions.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create table marts.admin_audit_log (
  id bigint generated always as identity,
  created timestamptz not null default now(),
  admin_user_id uuid not null,
  action text not null,
  resource_type text not null,
  resource_id text not null,
  tenant_id uuid,
  old_values jsonb,
  new_values jsonb,
  ip_address inet,
  user_agent text,
  notes text,
  metadata jsonb,
  data_classification varchar(20) not null default 'internal',
  retention_category varchar(20) not null default 'long_term',
  compliance_flags text[],
  primary key (id, created),
  constraint admin_audit_log_action_allowed check (action in ('user_status_change', 'company_status_change', 'billing_update', 'system_config', 'role_assignment', 'permission_grant', 'data_export', 'session_start', 'session_end')),
  constraint admin_audit_log_data_classification_allowed check (data_classification in ('public', 'internal', 'confidential', 'restricted')),
  constraint admin_audit_log_retention_category_allowed check (retention_category in ('short_term', 'medium_term', 'long_term', 'permanent'))
) partition by range (created);
comment on table marts.admin_audit_log is 'Append-only record of what staff changed and for which tenant.';
comment on column marts.admin_audit_log.resource_id is 'polymorphic, therefore text';
comment on column marts.admin_audit_log.old_values is 'redacted: no secrets, no message text';
comment on column marts.admin_audit_log.compliance_flags is 'GDPR, SOX, HIPAA';
create index admin_audit_log_tenant_id_created_desc_idx on marts.admin_audit_log (tenant_id, created desc);
create index admin_audit_log_admin_user_id_created_desc_idx on marts.admin_audit_log (admin_user_id, created desc);
create index admin_audit_log_resource_type_resource_id_created_desc_idx on marts.admin_audit_log (resource_type, resource_id, created desc);
create index admin_audit_log_action_created_desc_idx on marts.admin_audit_log (action, created desc);
create index admin_audit_log_created_idx on marts.admin_audit_log using brin (created);
select penguin.create_range_partitions('marts.admin_audit_log', 'yearly', date_trunc('year', current_date)::date - 366, (current_date + interval '1 year')::date);
select penguin.protect('marts.admin_audit_log', 'staff_read_insert_any');

-- Nobody edits history: privileges forbid it, and this trigger forbids it to the owner as well.
create function penguin.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception 'Table % is append-only; % is refused. Write a correcting entry instead.', tg_table_name, lower(tg_op);
end
$$;
create trigger refuse_change before update or delete on marts.admin_audit_log for each row execute function penguin.refuse_change();
create trigger refuse_truncate before truncate on marts.admin_audit_log for each statement execute function penguin.refuse_change();

-- The one way to write an entry; every privileged action calls it. Returns nothing: RETURNING needs the right to read the log.
create function marts.record_admin_action(
  admin_user_id uuid, action text, resource_type text, resource_id text, tenant_id uuid default null,
  old_values jsonb default null, new_values jsonb default null, notes text default null,
  retention_category text default 'long_term', created timestamptz default now()
) returns void language sql volatile security definer set search_path = pg_catalog
begin atomic
  insert into marts.admin_audit_log
    (admin_user_id, action, resource_type, resource_id, tenant_id, old_values, new_values, notes, retention_category, created)
  values (admin_user_id, action, resource_type, resource_id, tenant_id, old_values, new_values, notes, retention_category, created);
end;
comment on function marts.record_admin_action(uuid, text, text, text, uuid, jsonb, jsonb, text, text, timestamptz)
is 'Appends one entry to the audit log. Values must be redacted by the caller: no secrets, no message text.';
revoke execute on function marts.record_admin_action(uuid, text, text, text, uuid, jsonb, jsonb, text, text, timestamptz) from public;
grant execute on function marts.record_admin_action(uuid, text, text, text, uuid, jsonb, jsonb, text, text, timestamptz)
to pm_app, pm_worker, pm_staff, pm_etl;
