-- Mail and notices of the platform itself, and retention policies.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create table transactional_emails (
  id uuid not null default gen_random_uuid(),
  user_id uuid,
  tenant_id uuid not null,
  type varchar(100) not null,
  payload jsonb,
  template_variables jsonb,
  recipient_email varchar(254) not null,
  subject varchar(500),
  content_storage_key varchar(500),
  status varchar(50) not null default 'queued',
  queued timestamptz not null default now(),
  sent timestamptz,
  delivered timestamptz,
  bounced timestamptz,
  failed timestamptz,
  last_error_message text,
  retry_count integer not null default 0,
  job_id uuid,
  tracking_id varchar(100),
  open_tracking_enabled boolean not null default true,
  click_tracking_enabled boolean not null default true,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  constraint transactional_emails_type_allowed check (type in ('WELCOME_EMAIL', 'PASSWORD_RESET', 'INVOICE_READY', 'SECURITY_ALERT', 'SYSTEM_MAINTENANCE', 'QUOTA_WARNING')),
  constraint transactional_emails_status_allowed check (status in ('queued', 'sent', 'delivered', 'bounced', 'failed')),
  foreign key (content_storage_key) references content_objects (storage_key) on delete set null
);
comment on table transactional_emails is 'Mail the platform itself sends to a person: welcome, reset, invoice, alert.';
comment on column transactional_emails.template_variables is 'no secrets: reset tokens are stored hashed';
comment on column transactional_emails.created is 'row creation time, UTC';
comment on column transactional_emails.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column transactional_emails.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create unique index transactional_emails_tracking_id_key on transactional_emails (tracking_id) where tracking_id is not null;
create index transactional_emails_tenant_id_created_desc_idx on transactional_emails (tenant_id, created desc);
create index transactional_emails_status_queued_idx on transactional_emails (status, queued) where status = 'queued';
create index transactional_emails_user_id_created_desc_idx on transactional_emails (user_id, created desc);
create index transactional_emails_content_storage_key_fk on transactional_emails (content_storage_key) where content_storage_key is not null;
select penguin.protect('transactional_emails', 'tenant_isolation');
select penguin.track('transactional_emails');

create table notifications (
  id uuid not null default gen_random_uuid(),
  user_id uuid,
  tenant_id uuid not null,
  type varchar(100) not null,
  title text not null,
  message text not null,
  channel varchar(20) not null default 'in_app',
  priority varchar(20) not null default 'normal',
  is_read boolean not null default false,
  read timestamptz,
  expires timestamptz,
  action_url text,
  action_text varchar(100),
  metadata jsonb,
  deleted timestamptz,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  constraint notifications_type_allowed check (type in ('SUBSCRIPTION_EXPIRED', 'NEW_MESSAGE', 'CAMPAIGN_COMPLETED', 'DOMAIN_VERIFIED', 'SECURITY_LOGIN', 'QUOTA_NEARING')),
  constraint notifications_channel_allowed check (channel in ('in_app', 'email', 'push')),
  constraint notifications_priority_allowed check (priority in ('low', 'normal', 'high', 'urgent'))
);
comment on table notifications is 'Message shown to a user in the product, optionally also by mail or push.';
comment on column notifications.user_id is 'null addresses every member of the tenant';
comment on column notifications.deleted is 'soft-delete marker; null means live';
comment on column notifications.created is 'row creation time, UTC';
comment on column notifications.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column notifications.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index notifications_user_id_tenant_id_created_desc_idx on notifications (user_id, tenant_id, created desc);
create index notifications_user_id_tenant_id_created_desc_idx_live on notifications (user_id, tenant_id, created desc) where not is_read and deleted is null;
create index notifications_expires_idx on notifications (expires) where expires is not null;
select penguin.protect('notifications', 'tenant_and_owner');
select penguin.track('notifications');

create table retention_policies (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid,
  content_type varchar(50) not null,
  retention_days integer not null,
  auto_archive boolean not null default false,
  auto_delete boolean not null default false,
  gdpr_compliant boolean not null default true,
  hipaa_compliant boolean not null default false,
  sox_compliant boolean not null default false,
  data_classification varchar(20) not null default 'confidential',
  legal_hold boolean not null default false,
  priority integer not null default 0,
  is_active boolean not null default true,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique nulls not distinct (tenant_id, content_type),
  constraint retention_policies_content_type_allowed check (content_type in ('email', 'attachment', 'notification', 'export', 'backup')),
  constraint retention_policies_data_classification_allowed check (data_classification in ('public', 'internal', 'confidential', 'restricted')),
  constraint retention_policies_rule_1 check (retention_days > 0)
);
comment on table retention_policies is 'How long a tenant, or everyone, keeps a kind of content.';
comment on column retention_policies.tenant_id is 'null is the platform default';
comment on column retention_policies.legal_hold is 'blocks deletion whatever the days say';
comment on column retention_policies.priority is 'higher wins';
comment on column retention_policies.created is 'row creation time, UTC';
comment on column retention_policies.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column retention_policies.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
select penguin.protect('retention_policies', 'tenant_or_global');
select penguin.track('retention_policies');
