-- Workspaces of a tenant with their domains, mailboxes and warmup plans.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create table companies (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  name varchar(100) not null,
  workspace_name varchar(255),
  logo_url text,
  status varchar(20) not null default 'active',
  industry varchar(100),
  company_size varchar(50),
  onboarding_started timestamptz,
  onboarding_completed timestamptz,
  hide_onboarding boolean not null default false,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (tenant_id, name),
  unique (tenant_id, workspace_name),
  unique (tenant_id, id),
  constraint companies_status_allowed check (status in ('active', 'suspended', 'archived')),
  foreign key (tenant_id) references tenants (id) on delete cascade
);
comment on table companies is 'Workspace inside a tenant: a client of an agency or a brand. The UI calls it workspace.';
comment on column companies.workspace_name is 'URL slug';
comment on column companies.industry is 'optional enrichment';
comment on column companies.company_size is 'optional enrichment';
comment on column companies.created is 'row creation time, UTC';
comment on column companies.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column companies.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index companies_tenant_id_status_idx on companies (tenant_id, status) include (name, workspace_name);
select penguin.protect('companies', 'tenant_isolation');
select penguin.track('companies');

create table domains (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  company_id uuid not null,
  domain varchar(253) not null,
  verification_status varchar(50) not null default 'pending',
  dns_records jsonb,
  is_primary boolean not null default false,
  verified timestamptz,
  mailu_domain text,
  dns_ttl_observed integer,
  dns_last_verified timestamptz,
  dns_verification_error text,
  dns_verification_attempts integer not null default 0,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (company_id, domain),
  unique (tenant_id, id),
  constraint domains_verification_status_allowed check (verification_status in ('pending', 'verified', 'failed')),
  foreign key (tenant_id) references tenants (id) on delete cascade,
  foreign key (tenant_id, company_id) references companies (tenant_id, id) on delete cascade
);
comment on table domains is 'Sending domain of a workspace with its DNS verification state.';
comment on column domains.domain is 'lower case, punycode';
comment on column domains.dns_records is 'expected records by type SPF, DKIM, DMARC, MX, A, AAAA, CNAME with observed value and pass flag';
comment on column domains.mailu_domain is 'host name registered in Mailu';
comment on column domains.dns_ttl_observed is 'seconds';
comment on column domains.created is 'row creation time, UTC';
comment on column domains.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column domains.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create unique index domains_company_id_key on domains (company_id) where is_primary;
create index domains_tenant_id_verification_status_idx on domains (tenant_id, verification_status);
create index domains_domain_idx on domains (domain);
create index domains_dns_last_verified_idx on domains (dns_last_verified) where verification_status <> 'verified';
select penguin.protect('domains', 'tenant_isolation');
select penguin.track('domains');

create table email_accounts (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  company_id uuid,
  domain_id uuid not null,
  email varchar(255) not null,
  provider varchar(50) not null default 'mailu',
  vault_key_path varchar(500),
  imap_settings jsonb,
  smtp_settings jsonb,
  status varchar(50) not null default 'active',
  daily_limit integer not null default 50,
  daily_count integer not null default 0,
  last_warmed timestamptz,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (tenant_id, id),
  constraint email_accounts_status_allowed check (status in ('active', 'authentication_failed', 'suspended', 'deleted')),
  foreign key (tenant_id) references tenants (id) on delete cascade,
  foreign key (tenant_id, company_id) references companies (tenant_id, id) on delete cascade,
  foreign key (tenant_id, domain_id) references domains (tenant_id, id) on delete cascade
);
comment on table email_accounts is 'Mailbox that sends and receives; the analytics docs call it mailbox.';
comment on column email_accounts.id is 'known as mailbox_id in the OLAP tier';
comment on column email_accounts.company_id is 'denormalised from domains so marts need no join';
comment on column email_accounts.vault_key_path is 'pointer into HashiCorp Vault; the secret itself is never stored';
comment on column email_accounts.daily_limit is 'needed by mailbox_analytics; the client defaults to 50';
comment on column email_accounts.daily_count is 'sends so far in the current UTC day, reset at 00:00 UTC';
comment on column email_accounts.created is 'row creation time, UTC';
comment on column email_accounts.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column email_accounts.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create unique index email_accounts_lower_email__key on email_accounts (lower(email)) where status <> 'deleted';
create index email_accounts_tenant_id_status_idx on email_accounts (tenant_id, status) include (email, domain_id, daily_count);
create index email_accounts_domain_id_status_idx on email_accounts (domain_id, status);
create index email_accounts_last_warmed_idx on email_accounts (last_warmed) where status = 'active';
create index email_accounts_tenant_id_company_id_fk on email_accounts (tenant_id, company_id) where company_id is not null;
select penguin.protect('email_accounts', 'tenant_isolation');
select penguin.track('email_accounts');

create table warmup_schedules (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  email_account_id uuid not null,
  schedule_name varchar(255),
  schedule_type varchar(50) not null default 'standard',
  total_days integer not null default 42,
  current_day integer not null default 0,
  start_volume integer not null default 10,
  target_volume integer not null default 500,
  status varchar(20) not null default 'pending',
  paused_reason varchar(100),
  started timestamptz,
  completed timestamptz,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (tenant_id, id),
  constraint warmup_schedules_schedule_type_allowed check (schedule_type in ('standard', 'aggressive', 'conservative', 'custom')),
  constraint warmup_schedules_status_allowed check (status in ('pending', 'active', 'paused', 'completed')),
  foreign key (tenant_id) references tenants (id) on delete cascade,
  foreign key (tenant_id, email_account_id) references email_accounts (tenant_id, id) on delete cascade
);
comment on table warmup_schedules is 'The warmup plan a mailbox follows and the day it has reached.';
comment on column warmup_schedules.total_days is 'standard 42, aggressive 28, conservative 56';
comment on column warmup_schedules.current_day is 'advances only on a day that met its volume and passed the safety checks';
comment on column warmup_schedules.start_volume is 'standard 10, aggressive 20, conservative 5';
comment on column warmup_schedules.target_volume is 'standard 500, aggressive 1000, conservative 300';
comment on column warmup_schedules.paused_reason is 'bounce_rate, spam_rate, manual, account';
comment on column warmup_schedules.created is 'row creation time, UTC';
comment on column warmup_schedules.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column warmup_schedules.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create unique index warmup_schedules_email_account_id_key on warmup_schedules (email_account_id) where status in ('pending','active','paused');
create index warmup_schedules_status_updated_idx on warmup_schedules (status, updated) where status = 'active';
select penguin.protect('warmup_schedules', 'tenant_isolation');
select penguin.track('warmup_schedules');
