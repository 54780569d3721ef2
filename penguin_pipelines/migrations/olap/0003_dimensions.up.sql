-- Small copies of names and states, so that facts need no cross-database join.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create table marts.dim_tenants (
  tenant_id uuid not null,
  name text,
  signed_up timestamptz,
  closed timestamptz,
  first_paid timestamptz,
  source_updated timestamptz,
  updated timestamptz not null default now(),
  primary key (tenant_id)
);
comment on table marts.dim_tenants is 'Name and life span of a tenant.';
comment on column marts.dim_tenants.updated is 'last change, UTC; maintained by a before-update trigger';
select penguin.protect('marts.dim_tenants', 'tenant_isolation');

create table marts.dim_companies (
  company_id uuid not null,
  tenant_id uuid not null,
  name varchar(100),
  status varchar(20),
  industry varchar(100),
  company_size varchar(50),
  source_updated timestamptz,
  updated timestamptz not null default now(),
  primary key (tenant_id, company_id)
);
comment on table marts.dim_companies is 'Name of a workspace.';
comment on column marts.dim_companies.updated is 'last change, UTC; maintained by a before-update trigger';
select penguin.protect('marts.dim_companies', 'tenant_isolation');

create table marts.dim_campaigns (
  campaign_id uuid not null,
  tenant_id uuid not null,
  company_id uuid not null,
  name varchar(200),
  status varchar(50),
  started timestamptz,
  completed timestamptz,
  source_updated timestamptz,
  updated timestamptz not null default now(),
  primary key (tenant_id, campaign_id)
);
comment on table marts.dim_campaigns is 'Name and timing of a campaign.';
comment on column marts.dim_campaigns.updated is 'last change, UTC; maintained by a before-update trigger';
select penguin.protect('marts.dim_campaigns', 'tenant_isolation');

create table marts.dim_sequence_steps (
  step_id uuid not null,
  tenant_id uuid not null,
  campaign_id uuid not null,
  step_order integer,
  step_type varchar(50),
  template_name varchar(100),
  source_updated timestamptz,
  updated timestamptz not null default now(),
  primary key (tenant_id, step_id)
);
comment on table marts.dim_sequence_steps is 'Order and label of a step.';
comment on column marts.dim_sequence_steps.updated is 'last change, UTC; maintained by a before-update trigger';
select penguin.protect('marts.dim_sequence_steps', 'tenant_isolation');

create table marts.dim_mailboxes (
  mailbox_id uuid not null,
  tenant_id uuid not null,
  company_id uuid,
  domain_id uuid,
  mailbox_pseudonym text,
  domain varchar(253),
  provider varchar(50),
  status varchar(50),
  source_updated timestamptz,
  updated timestamptz not null default now(),
  primary key (tenant_id, mailbox_id)
);
comment on table marts.dim_mailboxes is 'Pseudonym, domain and state of a mailbox.';
comment on column marts.dim_mailboxes.mailbox_pseudonym is 'keyed hash of the address, never the address itself';
comment on column marts.dim_mailboxes.updated is 'last change, UTC; maintained by a before-update trigger';
select penguin.protect('marts.dim_mailboxes', 'tenant_isolation');
