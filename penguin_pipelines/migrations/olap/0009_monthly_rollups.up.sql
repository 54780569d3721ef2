-- Monthly totals of the daily facts, kept for ever; days are archived after 24 months.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create table marts.campaign_analytics_monthly (
  id bigint generated always as identity,
  tenant_id uuid not null,
  company_id uuid not null,
  campaign_id uuid not null,
  month date not null,
  sent integer not null default 0,
  delivered integer not null default 0,
  opened_tracked integer not null default 0,
  clicked_tracked integer not null default 0,
  replied integer not null default 0,
  bounced integer not null default 0,
  hard_bounced integer not null default 0,
  soft_bounced integer not null default 0,
  unsubscribed integer not null default 0,
  spam_complaints integer not null default 0,
  opens_total integer not null default 0,
  clicks_total integer not null default 0,
  opened_machine integer not null default 0,
  clicked_machine integer not null default 0,
  active_days integer not null default 0,
  leads_total integer not null default 0,
  completed_leads integer not null default 0,
  is_final boolean not null default false,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, campaign_id, month),
  constraint campaign_analytics_monthly_rule_1 check (bounced = hard_bounced + soft_bounced),
  constraint campaign_analytics_monthly_rule_2 check (extract(day from month) = 1)
);
comment on table marts.campaign_analytics_monthly is 'Results of a campaign in a month, kept when its days have left the online months.';
comment on column marts.campaign_analytics_monthly.month is 'first day of the UTC month of the send';
comment on column marts.campaign_analytics_monthly.active_days is 'days with mail';
comment on column marts.campaign_analytics_monthly.leads_total is 'by the end of its last day with mail';
comment on column marts.campaign_analytics_monthly.completed_leads is 'by the end of its last day with mail';
comment on column marts.campaign_analytics_monthly.is_final is 'true once its last day is final';
create index campaign_analytics_monthly_month_idx_live on marts.campaign_analytics_monthly (month) where not is_final;
select penguin.protect('marts.campaign_analytics_monthly', 'tenant_isolation');

create table marts.sequence_step_analytics_monthly (
  id bigint generated always as identity,
  tenant_id uuid not null,
  company_id uuid not null,
  campaign_id uuid not null,
  step_id uuid not null,
  month date not null,
  sent integer not null default 0,
  delivered integer not null default 0,
  opened_tracked integer not null default 0,
  clicked_tracked integer not null default 0,
  replied integer not null default 0,
  bounced integer not null default 0,
  hard_bounced integer not null default 0,
  soft_bounced integer not null default 0,
  unsubscribed integer not null default 0,
  spam_complaints integer not null default 0,
  opens_total integer not null default 0,
  clicks_total integer not null default 0,
  opened_machine integer not null default 0,
  clicked_machine integer not null default 0,
  active_days integer not null default 0,
  is_final boolean not null default false,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, step_id, campaign_id, month),
  constraint sequence_step_analytics_monthly_rule_1 check (bounced = hard_bounced + soft_bounced),
  constraint sequence_step_analytics_monthly_rule_2 check (extract(day from month) = 1)
);
comment on table marts.sequence_step_analytics_monthly is 'Results of one email step in a month, kept when its days have left the online months.';
comment on column marts.sequence_step_analytics_monthly.month is 'first day of the UTC month of the send';
comment on column marts.sequence_step_analytics_monthly.active_days is 'days with mail';
comment on column marts.sequence_step_analytics_monthly.is_final is 'true once its last day is final';
create index sequence_step_analytics_monthly_month_idx_live on marts.sequence_step_analytics_monthly (month) where not is_final;
select penguin.protect('marts.sequence_step_analytics_monthly', 'tenant_isolation');

create table marts.mailbox_analytics_monthly (
  id bigint generated always as identity,
  tenant_id uuid not null,
  company_id uuid not null,
  domain_id uuid,
  mailbox_id uuid not null,
  month date not null,
  sent integer not null default 0,
  delivered integer not null default 0,
  opened_tracked integer not null default 0,
  clicked_tracked integer not null default 0,
  replied integer not null default 0,
  bounced integer not null default 0,
  hard_bounced integer not null default 0,
  soft_bounced integer not null default 0,
  unsubscribed integer not null default 0,
  spam_complaints integer not null default 0,
  opens_total integer not null default 0,
  clicks_total integer not null default 0,
  opened_machine integer not null default 0,
  clicked_machine integer not null default 0,
  active_days integer not null default 0,
  volume integer not null default 0,
  health_score smallint,
  is_final boolean not null default false,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, mailbox_id, month),
  constraint mailbox_analytics_monthly_rule_1 check (bounced = hard_bounced + soft_bounced),
  constraint mailbox_analytics_monthly_rule_2 check (extract(day from month) = 1)
);
comment on table marts.mailbox_analytics_monthly is 'Results of a mailbox in a month, kept when its days have left the online months.';
comment on column marts.mailbox_analytics_monthly.month is 'first day of the UTC month of the send';
comment on column marts.mailbox_analytics_monthly.active_days is 'days with mail';
comment on column marts.mailbox_analytics_monthly.volume is 'messages sent, warmup included';
comment on column marts.mailbox_analytics_monthly.health_score is 'of its last day that has one';
comment on column marts.mailbox_analytics_monthly.is_final is 'true once its last day is final';
create index mailbox_analytics_monthly_month_idx_live on marts.mailbox_analytics_monthly (month) where not is_final;
select penguin.protect('marts.mailbox_analytics_monthly', 'tenant_isolation');

create table marts.infrastructure_analytics_monthly (
  id bigint generated always as identity,
  month date not null,
  vps_instance_id uuid not null,
  smtp_ip_address_id uuid not null,
  tenant_id uuid,
  sent integer not null default 0,
  delivered integer not null default 0,
  opened_tracked integer not null default 0,
  clicked_tracked integer not null default 0,
  replied integer not null default 0,
  bounced integer not null default 0,
  hard_bounced integer not null default 0,
  soft_bounced integer not null default 0,
  unsubscribed integer not null default 0,
  spam_complaints integer not null default 0,
  opens_total integer not null default 0,
  clicks_total integer not null default 0,
  opened_machine integer not null default 0,
  clicked_machine integer not null default 0,
  active_days integer not null default 0,
  ip_cost numeric(12,4) not null default 0,
  vps_cost numeric(12,4) not null default 0,
  is_final boolean not null default false,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  primary key (id),
  unique nulls not distinct (month, smtp_ip_address_id, tenant_id),
  constraint infrastructure_analytics_monthly_rule_1 check (bounced = hard_bounced + soft_bounced),
  constraint infrastructure_analytics_monthly_rule_2 check (extract(day from month) = 1)
);
comment on table marts.infrastructure_analytics_monthly is 'Traffic and cost of a sending IP in a month by tenant, kept when its days have left the online months.';
comment on column marts.infrastructure_analytics_monthly.month is 'first day of the UTC month of the send';
comment on column marts.infrastructure_analytics_monthly.tenant_id is 'null row carries idle cost of the IP';
comment on column marts.infrastructure_analytics_monthly.active_days is 'days with mail, or idle days in the row without a tenant';
comment on column marts.infrastructure_analytics_monthly.is_final is 'true once its last day is final';
create index infrastructure_analytics_monthly_month_idx_live on marts.infrastructure_analytics_monthly (month) where not is_final;
create index infrastructure_analytics_monthly_tenant_id_month_idx on marts.infrastructure_analytics_monthly (tenant_id, month) where tenant_id is not null;
select penguin.protect('marts.infrastructure_analytics_monthly', 'tenant_or_staff');
