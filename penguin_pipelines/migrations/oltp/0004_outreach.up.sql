-- Leads, campaigns with their steps and enrolments, suppression, and the register of messages in flight.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create table leads (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  email varchar(255) not null,
  name varchar(200),
  first_name varchar(100),
  last_name varchar(100),
  company varchar(200),
  position varchar(200),
  metadata jsonb not null default '{}',
  status varchar(20) not null default 'active',
  imported timestamptz,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (tenant_id, email),
  unique (tenant_id, id),
  constraint leads_status_allowed check (status in ('active', 'replied', 'completed', 'bounced', 'unsubscribed')),
  foreign key (tenant_id) references tenants (id) on delete cascade
);
comment on table leads is 'Prospect a tenant may contact; one row per address per tenant.';
comment on column leads.email is 'stored lower case';
comment on column leads.first_name is 'from the older generation, used by template variables';
comment on column leads.last_name is 'from the older generation';
comment on column leads.position is 'from the older generation';
comment on column leads.metadata is 'custom fields';
comment on column leads.imported is 'import batch time';
comment on column leads.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column leads.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index leads_tenant_id_status_idx on leads (tenant_id, status) include (email);
create index leads_tenant_id_updated_desc_idx on leads (tenant_id, updated desc);
create index leads_metadata_idx on leads using gin (metadata);
select penguin.protect('leads', 'tenant_isolation');
select penguin.track('leads');

create table templates (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  name varchar(100) not null,
  subject varchar(255),
  content text,
  is_starred boolean not null default false,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (tenant_id, id),
  foreign key (tenant_id) references tenants (id) on delete cascade
);
comment on table templates is 'Reusable outreach message.';
comment on column templates.created is 'row creation time, UTC';
comment on column templates.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column templates.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index templates_tenant_id_updated_desc_idx on templates (tenant_id, updated desc) include (name, subject);
select penguin.protect('templates', 'tenant_isolation');
select penguin.track('templates');

create table campaigns (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  company_id uuid not null,
  name varchar(200) not null,
  description text,
  status varchar(50) not null default 'draft',
  scheduled timestamptz,
  started timestamptz,
  completed timestamptz,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (tenant_id, id),
  constraint campaigns_status_allowed check (status in ('draft', 'scheduled', 'sending', 'paused', 'completed')),
  foreign key (tenant_id) references tenants (id) on delete cascade,
  foreign key (tenant_id, company_id) references companies (tenant_id, id) on delete cascade
);
comment on table campaigns is 'An outreach effort of a workspace: goal, state and timing.';
comment on column campaigns.scheduled is 'planned start';
comment on column campaigns.created is 'row creation time, UTC';
comment on column campaigns.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column campaigns.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index campaigns_tenant_id_company_id_status_idx on campaigns (tenant_id, company_id, status) include (name, scheduled, completed);
create index campaigns_scheduled_idx on campaigns (scheduled) where status = 'scheduled' and scheduled is not null;
create index campaigns_updated_idx on campaigns (updated) where status = 'sending';
select penguin.protect('campaigns', 'tenant_isolation');
select penguin.track('campaigns');

create table campaign_sequence_steps (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  campaign_id uuid not null,
  step_order integer not null,
  step_type varchar(50) not null,
  email_account_id uuid,
  template_id uuid,
  subject_override varchar(500),
  from_name_override varchar(100),
  wait_duration_hours integer,
  wait_until_date timestamptz,
  condition_type varchar(50),
  condition_value varchar(100),
  send_condition text,
  is_active boolean not null default true,
  executed_count integer not null default 0,
  last_executed timestamptz,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (campaign_id, step_order) deferrable initially immediate,
  unique (tenant_id, id),
  constraint campaign_sequence_steps_step_type_allowed check (step_type in ('email', 'wait', 'condition')),
  constraint campaign_sequence_steps_condition_type_allowed check (condition_type in ('always', 'opened', 'not_opened', 'clicked', 'not_clicked', 'replied', 'not_replied')),
  constraint campaign_sequence_steps_rule_1 check (step_order >= 1),
  constraint campaign_sequence_steps_rule_2 check ((step_type <> 'email' or template_id is not null) and (step_type <> 'wait' or wait_duration_hours is not null or wait_until_date is not null) and (step_type <> 'condition' or condition_type is not null)),
  foreign key (tenant_id) references tenants (id) on delete cascade,
  foreign key (tenant_id, campaign_id) references campaigns (tenant_id, id) on delete cascade,
  foreign key (tenant_id, email_account_id) references email_accounts (tenant_id, id) on delete set null (email_account_id),
  foreign key (tenant_id, template_id) references templates (tenant_id, id) on delete restrict
);
comment on table campaign_sequence_steps is 'Plan of a campaign: ordered steps that send, wait or branch. Orchestration state only, never message text or per-message results.';
comment on column campaign_sequence_steps.step_order is '1-based';
comment on column campaign_sequence_steps.email_account_id is 'fixed sender; null means rotate';
comment on column campaign_sequence_steps.send_condition is 'free expression kept for compatibility; prefer condition_type';
comment on column campaign_sequence_steps.executed_count is 'convenience counter, not an analytics source';
comment on column campaign_sequence_steps.created is 'row creation time, UTC';
comment on column campaign_sequence_steps.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column campaign_sequence_steps.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index campaign_sequence_steps_campaign_id_step_order_idx on campaign_sequence_steps (campaign_id, step_order) include (step_type, template_id, is_active);
create index campaign_sequence_steps_tenant_id_campaign_id_idx on campaign_sequence_steps (tenant_id, campaign_id);
create index campaign_sequence_steps_email_account_id_idx on campaign_sequence_steps (email_account_id) where email_account_id is not null;
create index campaign_sequence_steps_tenant_id_template_id_fk on campaign_sequence_steps (tenant_id, template_id) where template_id is not null;
select penguin.protect('campaign_sequence_steps', 'tenant_isolation');
select penguin.track('campaign_sequence_steps');

create table campaign_leads (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  campaign_id uuid not null,
  lead_id uuid not null,
  status varchar(20) not null default 'enrolled',
  current_step_id uuid,
  steps_completed integer not null default 0,
  exit_reason varchar(50),
  next_due timestamptz,
  started timestamptz,
  completed timestamptz,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (campaign_id, lead_id),
  unique (tenant_id, id),
  constraint campaign_leads_status_allowed check (status in ('enrolled', 'active', 'paused', 'completed', 'exited')),
  constraint campaign_leads_exit_reason_allowed check (exit_reason in ('replied', 'bounced', 'unsubscribed', 'complained', 'manual')),
  foreign key (tenant_id) references tenants (id) on delete cascade,
  foreign key (tenant_id, campaign_id) references campaigns (tenant_id, id) on delete cascade,
  foreign key (tenant_id, lead_id) references leads (tenant_id, id) on delete cascade,
  foreign key (tenant_id, current_step_id) references campaign_sequence_steps (tenant_id, id) on delete set null (current_step_id)
);
comment on table campaign_leads is 'Enrolment of a lead in a campaign and the position reached in its sequence.';
comment on column campaign_leads.next_due is 'when the scheduler should act next';
comment on column campaign_leads.completed is 'set for completed and exited';
comment on column campaign_leads.created is 'enrolment time';
comment on column campaign_leads.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column campaign_leads.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index campaign_leads_next_due_idx on campaign_leads (next_due) where status in ('enrolled','active') and next_due is not null;
create index campaign_leads_tenant_id_campaign_id_status_idx on campaign_leads (tenant_id, campaign_id, status);
create index campaign_leads_lead_id_idx on campaign_leads (lead_id);
create index campaign_leads_tenant_id_current_step_id_fk on campaign_leads (tenant_id, current_step_id) where current_step_id is not null;
select penguin.protect('campaign_leads', 'tenant_isolation');
select penguin.track('campaign_leads');

create table suppression_list (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid,
  company_id uuid,
  email varchar(255) not null,
  reason varchar(50) not null,
  source varchar(50),
  scope varchar(20) not null default 'tenant',
  added_by uuid,
  expires timestamptz,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique nulls not distinct (tenant_id, company_id, email, scope),
  constraint suppression_list_reason_allowed check (reason in ('hard_bounce', 'soft_bounce_limit', 'unsubscribe', 'spam_complaint', 'manual', 'legal')),
  constraint suppression_list_scope_allowed check (scope in ('global', 'tenant', 'workspace', 'campaign_type')),
  foreign key (tenant_id) references tenants (id) on delete restrict,
  foreign key (tenant_id, company_id) references companies (tenant_id, id) on delete set null (company_id),
  foreign key (added_by) references users (id) on delete set null
);
comment on table suppression_list is 'Addresses that must not be mailed, checked before every send.';
comment on column suppression_list.tenant_id is 'null for scope global';
comment on column suppression_list.email is 'lower case';
comment on column suppression_list.source is 'webhook, list_unsubscribe, import, staff';
comment on column suppression_list.expires is 'null means forever';
comment on column suppression_list.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column suppression_list.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index suppression_list_email_tenant_id_idx on suppression_list (email, tenant_id) include (scope, expires);
create index suppression_list_added_by_fk on suppression_list (added_by) where added_by is not null;
select penguin.protect('suppression_list', 'tenant_or_global');
select penguin.track('suppression_list');

create table inbox_message_refs (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  company_id uuid,
  email_account_id uuid not null,
  campaign_id uuid,
  sequence_step_id uuid,
  lead_id uuid,
  parent_message_id uuid,
  direction varchar(20) not null,
  message_type varchar(20) not null default 'email',
  from_email varchar(254) not null,
  to_email varchar(254) not null,
  subject varchar(500),
  status varchar(50) not null default 'queued',
  content_storage_key varchar(500),
  internet_message_id varchar(998),
  idempotency_key varchar(128),
  is_warmup boolean not null default false,
  queued timestamptz,
  sent timestamptz,
  processed timestamptz,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (tenant_id, id),
  constraint inbox_message_refs_direction_allowed check (direction in ('inbound', 'outbound')),
  constraint inbox_message_refs_message_type_allowed check (message_type in ('email', 'bounce', 'auto_reply')),
  constraint inbox_message_refs_status_allowed check (status in ('queued', 'sent', 'delivered', 'bounced', 'failed', 'opened', 'replied', 'received')),
  foreign key (tenant_id) references tenants (id) on delete cascade,
  foreign key (tenant_id, parent_message_id) references inbox_message_refs (tenant_id, id) on delete set null (parent_message_id)
) partition by hash (tenant_id);
comment on table inbox_message_refs is 'Slim register of each message in flight or in the inbox: state, threading and idempotency, with a pointer to the body.';
comment on column inbox_message_refs.company_id is 'denormalised';
comment on column inbox_message_refs.campaign_id is 'null for one-to-one mail and warmup';
comment on column inbox_message_refs.sequence_step_id is 'without it step analytics cannot be attributed';
comment on column inbox_message_refs.parent_message_id is 'same-tenant self reference, see extra_foreign_keys';
comment on column inbox_message_refs.content_storage_key is 'null until the Content write is confirmed';
comment on column inbox_message_refs.internet_message_id is 'Message-ID header';
comment on column inbox_message_refs.idempotency_key is 'campaign, step, lead and attempt group; stops double sends';
comment on column inbox_message_refs.processed is 'handed to Content and analytics';
comment on column inbox_message_refs.created is 'row creation time, UTC';
comment on column inbox_message_refs.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column inbox_message_refs.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create unique index inbox_message_refs_tenant_id_idempotency_key_key on inbox_message_refs (tenant_id, idempotency_key) where idempotency_key is not null;
create index inbox_message_refs_tenant_id_email_account_id_created_desc_idx on inbox_message_refs (tenant_id, email_account_id, created desc) include (status, direction, lead_id, subject);
create index inbox_message_refs_campaign_id_lead_id_created_idx on inbox_message_refs (campaign_id, lead_id, created);
create index inbox_message_refs_status_created_idx on inbox_message_refs (status, created) where status = 'queued';
create index inbox_message_refs_tenant_id_parent_message_id_idx on inbox_message_refs (tenant_id, parent_message_id) where parent_message_id is not null;
create index inbox_message_refs_internet_message_hash_idx on inbox_message_refs (hashtextextended(internet_message_id, 0)) where internet_message_id is not null;
create index inbox_message_refs_updated_idx on inbox_message_refs (updated) where processed is null;
select penguin.create_hash_partitions('inbox_message_refs', 16);
select penguin.protect('inbox_message_refs', 'tenant_isolation');
select penguin.track('inbox_message_refs');
