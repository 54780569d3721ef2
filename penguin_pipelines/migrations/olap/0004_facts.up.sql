-- Fact tables of the marts. dbt fills them; partitions, keys, checks and policies live here.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create table marts.billing_analytics (
  id bigint generated always as identity,
  tenant_id uuid not null,
  subscription_id uuid,
  plan_id uuid,
  plan_slug varchar(100),
  emails_sent integer not null default 0,
  mailboxes_used integer not null default 0,
  domains_used integer not null default 0,
  campaigns_used integer not null default 0,
  leads_used integer not null default 0,
  warmups_active integer not null default 0,
  storage_bytes_used bigint not null default 0,
  limit_emails integer,
  limit_mailboxes integer,
  limit_domains integer,
  limit_campaigns integer,
  limit_leads integer,
  limit_warmups integer,
  limit_storage_gb integer,
  mrr_cents bigint not null default 0,
  currency varchar(3) not null default 'USD',
  subscription_status varchar(50),
  period_start timestamptz not null,
  period_end timestamptz not null,
  is_final boolean not null default false,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, period_start, period_end),
  constraint billing_analytics_rule_1 check (period_end > period_start),
  constraint billing_analytics_rule_2 check (least(emails_sent, mailboxes_used, domains_used, campaigns_used, leads_used, warmups_active, storage_bytes_used, mrr_cents) >= 0)
);
comment on table marts.billing_analytics is 'Usage of a tenant in one monthly usage window, with the limits that applied.';
comment on column marts.billing_analytics.plan_id is 'snapshot';
comment on column marts.billing_analytics.plan_slug is 'snapshot';
comment on column marts.billing_analytics.emails_sent is 'outbound messages handed over, warmup excluded';
comment on column marts.billing_analytics.mailboxes_used is 'mailboxes in status active at any time in the window';
comment on column marts.billing_analytics.domains_used is 'domains connected';
comment on column marts.billing_analytics.campaigns_used is 'campaigns that were sending or completed in the window';
comment on column marts.billing_analytics.leads_used is 'leads stored at the end of the window';
comment on column marts.billing_analytics.warmups_active is 'open warmup schedules at the last refresh';
comment on column marts.billing_analytics.storage_bytes_used is 'plan sells storage';
comment on column marts.billing_analytics.limit_emails is 'null unlimited; snapshot of plan plus add-ons';
comment on column marts.billing_analytics.mrr_cents is 'modelled monthly revenue; Stripe stays authoritative';
comment on column marts.billing_analytics.period_end is 'exclusive';
comment on column marts.billing_analytics.created is 'row creation time, UTC';
comment on column marts.billing_analytics.updated is 'last change, UTC; maintained by a before-update trigger';
create index billing_analytics_tenant_id_period_start_desc_idx on marts.billing_analytics (tenant_id, period_start desc) include (emails_sent, limit_emails, mrr_cents, period_end);
create index billing_analytics_period_start_period_end_idx on marts.billing_analytics (period_start, period_end) where not is_final;
create index billing_analytics_subscription_id_idx on marts.billing_analytics (subscription_id);
select penguin.protect('marts.billing_analytics', 'tenant_isolation');

create table marts.sequence_step_analytics (
  id bigint generated always as identity,
  tenant_id uuid not null,
  company_id uuid not null,
  campaign_id uuid not null,
  step_id uuid not null,
  step_order integer,
  activity_date date not null,
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
  billing_id bigint,
  is_final boolean not null default false,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  primary key (tenant_id, activity_date, id),
  unique (tenant_id, step_id, campaign_id, activity_date),
  constraint sequence_step_analytics_rule_1 check (bounced = hard_bounced + soft_bounced),
  constraint sequence_step_analytics_rule_2 check (delivered + bounced <= sent),
  constraint sequence_step_analytics_rule_3 check (greatest(opened_tracked, clicked_tracked, replied, unsubscribed, spam_complaints) <= delivered),
  constraint sequence_step_analytics_rule_4 check (least(sent, delivered, opened_tracked, clicked_tracked, replied, bounced, hard_bounced, soft_bounced, unsubscribed, spam_complaints, opens_total, clicks_total, opened_machine, clicked_machine) >= 0),
  foreign key (tenant_id, billing_id) references marts.billing_analytics (tenant_id, id) on delete set null (billing_id)
) partition by range (activity_date);
comment on table marts.sequence_step_analytics is 'Daily results of one email step; the finest stored grain, from which campaigns are summed.';
comment on column marts.sequence_step_analytics.step_id is 'messages without a step go to the zero UUID row so that the sum stays equal';
comment on column marts.sequence_step_analytics.step_order is 'snapshot';
comment on column marts.sequence_step_analytics.opened_tracked is 'messages opened by a human at least once';
comment on column marts.sequence_step_analytics.clicked_tracked is 'messages clicked by a human at least once';
comment on column marts.sequence_step_analytics.bounced is 'hard plus soft';
comment on column marts.sequence_step_analytics.hard_bounced is 'needed by hard-bounce rules';
comment on column marts.sequence_step_analytics.opens_total is 'every human open';
comment on column marts.sequence_step_analytics.clicks_total is 'every human click';
comment on column marts.sequence_step_analytics.opened_machine is 'messages opened by a machine (prefetching proxy or scanner) at least once; may exceed delivered';
comment on column marts.sequence_step_analytics.clicked_machine is 'messages whose links were followed by a scanner at least once';
comment on column marts.sequence_step_analytics.billing_id is 'usage window that contains activity_date; set by the billing step';
comment on column marts.sequence_step_analytics.is_final is 'false while the day is open or inside the late-event window';
comment on column marts.sequence_step_analytics.created is 'row creation time, UTC';
comment on column marts.sequence_step_analytics.updated is 'last change, UTC; maintained by a before-update trigger';
create index sequence_step_analytics_tenant_id_campaign_id_activity_date_idx on marts.sequence_step_analytics (tenant_id, campaign_id, activity_date) include (step_id, step_order, sent, delivered, opened_tracked, clicked_tracked, replied);
create index sequence_step_analytics_step_id_activity_date_idx on marts.sequence_step_analytics (step_id, activity_date);
create index sequence_step_analytics_activity_date_idx on marts.sequence_step_analytics using brin (activity_date);
create index sequence_step_analytics_tenant_id_billing_id_fk on marts.sequence_step_analytics (tenant_id, billing_id) where billing_id is not null;
select penguin.create_range_partitions('marts.sequence_step_analytics', 'monthly', (current_date - interval '24 months')::date, (current_date + interval '3 months')::date);
select penguin.protect('marts.sequence_step_analytics', 'tenant_isolation');

create table marts.campaign_analytics (
  id bigint generated always as identity,
  tenant_id uuid not null,
  company_id uuid not null,
  campaign_id uuid not null,
  activity_date date not null,
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
  status varchar(50),
  leads_total integer not null default 0,
  active_leads integer not null default 0,
  completed_leads integer not null default 0,
  billing_id bigint,
  is_final boolean not null default false,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  primary key (tenant_id, activity_date, id),
  unique (tenant_id, campaign_id, activity_date),
  constraint campaign_analytics_rule_1 check (bounced = hard_bounced + soft_bounced),
  constraint campaign_analytics_rule_2 check (delivered + bounced <= sent),
  constraint campaign_analytics_rule_3 check (greatest(opened_tracked, clicked_tracked, replied, unsubscribed, spam_complaints) <= delivered),
  constraint campaign_analytics_rule_4 check (least(sent, delivered, opened_tracked, clicked_tracked, replied, bounced, hard_bounced, soft_bounced, unsubscribed, spam_complaints, opens_total, clicks_total, opened_machine, clicked_machine, leads_total, active_leads, completed_leads) >= 0),
  foreign key (tenant_id, billing_id) references marts.billing_analytics (tenant_id, id) on delete set null (billing_id)
) partition by range (activity_date);
comment on table marts.campaign_analytics is 'Daily results of a campaign; equals the sum of its steps.';
comment on column marts.campaign_analytics.activity_date is 'UTC date of the send';
comment on column marts.campaign_analytics.opened_tracked is 'messages opened by a human at least once';
comment on column marts.campaign_analytics.clicked_tracked is 'messages clicked by a human at least once';
comment on column marts.campaign_analytics.bounced is 'hard plus soft';
comment on column marts.campaign_analytics.hard_bounced is 'needed by hard-bounce rules';
comment on column marts.campaign_analytics.opens_total is 'every human open';
comment on column marts.campaign_analytics.clicks_total is 'every human click';
comment on column marts.campaign_analytics.opened_machine is 'messages opened by a machine (prefetching proxy or scanner) at least once; may exceed delivered';
comment on column marts.campaign_analytics.clicked_machine is 'messages whose links were followed by a scanner at least once';
comment on column marts.campaign_analytics.status is 'campaign status when computed';
comment on column marts.campaign_analytics.leads_total is 'enrolled by end of day; snapshot, do not sum';
comment on column marts.campaign_analytics.active_leads is 'snapshot';
comment on column marts.campaign_analytics.completed_leads is 'snapshot; enrolments completed or exited';
comment on column marts.campaign_analytics.billing_id is 'usage window that contains activity_date; set by the billing step';
comment on column marts.campaign_analytics.is_final is 'false while the day is open or inside the late-event window';
comment on column marts.campaign_analytics.created is 'row creation time, UTC';
comment on column marts.campaign_analytics.updated is 'last change, UTC; maintained by a before-update trigger';
create index campaign_analytics_tenant_id_company_id_activity_date_desc_idx on marts.campaign_analytics (tenant_id, company_id, activity_date desc) include (campaign_id, sent, delivered, opened_tracked, clicked_tracked, replied, bounced);
create index campaign_analytics_campaign_id_activity_date_idx on marts.campaign_analytics (campaign_id, activity_date);
create index campaign_analytics_updated_desc_sent_desc_idx on marts.campaign_analytics (updated desc, sent desc) where status = 'completed';
create index campaign_analytics_activity_date_idx on marts.campaign_analytics using brin (activity_date);
create index campaign_analytics_activity_date_idx_live on marts.campaign_analytics (activity_date) where not is_final;
create index campaign_analytics_billing_id_idx on marts.campaign_analytics (billing_id) where billing_id is not null;
select penguin.create_range_partitions('marts.campaign_analytics', 'monthly', (current_date - interval '24 months')::date, (current_date + interval '3 months')::date);
select penguin.protect('marts.campaign_analytics', 'tenant_isolation');

create table marts.mailbox_analytics (
  id bigint generated always as identity,
  tenant_id uuid not null,
  company_id uuid not null,
  domain_id uuid,
  mailbox_id uuid not null,
  activity_date date not null,
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
  warmup_status varchar(20),
  warmup_progress smallint,
  health_score smallint,
  current_volume integer not null default 0,
  daily_limit integer,
  campaign_status varchar(50),
  external_reputation_google varchar(20),
  external_reputation_microsoft varchar(20),
  billing_id bigint,
  is_final boolean not null default false,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  primary key (tenant_id, activity_date, id),
  unique (tenant_id, mailbox_id, activity_date),
  constraint mailbox_analytics_warmup_status_allowed check (warmup_status in ('pending', 'active', 'paused', 'completed')),
  constraint mailbox_analytics_rule_1 check (bounced = hard_bounced + soft_bounced),
  constraint mailbox_analytics_rule_2 check (delivered + bounced <= sent),
  constraint mailbox_analytics_rule_3 check (greatest(opened_tracked, clicked_tracked, replied, unsubscribed, spam_complaints) <= delivered),
  constraint mailbox_analytics_rule_4 check (least(sent, delivered, opened_tracked, clicked_tracked, replied, bounced, hard_bounced, soft_bounced, unsubscribed, spam_complaints, opens_total, clicks_total, opened_machine, clicked_machine) >= 0),
  constraint mailbox_analytics_rule_5 check (health_score between 0 and 100),
  foreign key (tenant_id, billing_id) references marts.billing_analytics (tenant_id, id) on delete set null (billing_id)
) partition by range (activity_date);
comment on table marts.mailbox_analytics is 'Daily results and health of a mailbox, campaign and one-to-one mail only.';
comment on column marts.mailbox_analytics.domain_id is 'makes domain performance a plain view';
comment on column marts.mailbox_analytics.opened_tracked is 'messages opened by a human at least once';
comment on column marts.mailbox_analytics.clicked_tracked is 'messages clicked by a human at least once';
comment on column marts.mailbox_analytics.bounced is 'hard plus soft';
comment on column marts.mailbox_analytics.hard_bounced is 'needed by hard-bounce rules';
comment on column marts.mailbox_analytics.opens_total is 'every human open';
comment on column marts.mailbox_analytics.clicks_total is 'every human click';
comment on column marts.mailbox_analytics.opened_machine is 'messages opened by a machine (prefetching proxy or scanner) at least once; may exceed delivered';
comment on column marts.mailbox_analytics.clicked_machine is 'messages whose links were followed by a scanner at least once';
comment on column marts.mailbox_analytics.warmup_status is 'client shows NOT_STARTED, WARMING, PAUSED, WARMED';
comment on column marts.mailbox_analytics.warmup_progress is 'percent, client has it';
comment on column marts.mailbox_analytics.current_volume is 'sends that day including warmup; snapshot';
comment on column marts.mailbox_analytics.daily_limit is 'snapshot';
comment on column marts.mailbox_analytics.campaign_status is 'busiest campaign state using the mailbox';
comment on column marts.mailbox_analytics.external_reputation_google is 'post-MVP, from Postmaster Tools';
comment on column marts.mailbox_analytics.external_reputation_microsoft is 'post-MVP, from SNDS';
comment on column marts.mailbox_analytics.billing_id is 'usage window that contains activity_date; set by the billing step';
comment on column marts.mailbox_analytics.is_final is 'false while the day is open or inside the late-event window';
comment on column marts.mailbox_analytics.created is 'row creation time, UTC';
comment on column marts.mailbox_analytics.updated is 'last change, UTC; maintained by a before-update trigger';
create index mailbox_analytics_tenant_id_company_id_activity_date_desc_idx on marts.mailbox_analytics (tenant_id, company_id, activity_date desc) include (mailbox_id, health_score, sent, delivered, bounced, spam_complaints);
create index mailbox_analytics_mailbox_id_activity_date_desc_idx on marts.mailbox_analytics (mailbox_id, activity_date desc);
create index mailbox_analytics_domain_id_activity_date_desc_idx on marts.mailbox_analytics (domain_id, activity_date desc);
create index mailbox_analytics_activity_date_idx on marts.mailbox_analytics using brin (activity_date);
create index mailbox_analytics_health_score_idx on marts.mailbox_analytics (health_score) where health_score < 60;
create index mailbox_analytics_tenant_id_billing_id_fk on marts.mailbox_analytics (tenant_id, billing_id) where billing_id is not null;
select penguin.create_range_partitions('marts.mailbox_analytics', 'monthly', (current_date - interval '24 months')::date, (current_date + interval '3 months')::date);
select penguin.protect('marts.mailbox_analytics', 'tenant_isolation');

create table marts.lead_analytics (
  id bigint generated always as identity,
  tenant_id uuid not null,
  company_id uuid,
  campaign_id uuid not null,
  lead_id uuid not null,
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
  status varchar(20),
  lead_score smallint,
  first_sent timestamptz,
  last_sent timestamptz,
  last_engaged timestamptz,
  billing_id bigint,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, campaign_id, lead_id),
  constraint lead_analytics_rule_1 check (bounced = hard_bounced + soft_bounced),
  constraint lead_analytics_rule_2 check (delivered + bounced <= sent),
  constraint lead_analytics_rule_3 check (greatest(opened_tracked, clicked_tracked, replied, unsubscribed, spam_complaints) <= delivered),
  constraint lead_analytics_rule_4 check (least(sent, delivered, opened_tracked, clicked_tracked, replied, bounced, hard_bounced, soft_bounced, unsubscribed, spam_complaints, opens_total, clicks_total, opened_machine, clicked_machine) >= 0),
  constraint lead_analytics_rule_5 check (lead_score between 0 and 100),
  foreign key (tenant_id, billing_id) references marts.billing_analytics (tenant_id, id) on delete set null (billing_id)
) partition by hash (tenant_id);
comment on table marts.lead_analytics is 'Lifetime results of a lead inside a campaign.';
comment on column marts.lead_analytics.opened_tracked is 'messages opened by a human at least once';
comment on column marts.lead_analytics.clicked_tracked is 'messages clicked by a human at least once';
comment on column marts.lead_analytics.bounced is 'hard plus soft';
comment on column marts.lead_analytics.hard_bounced is 'needed by hard-bounce rules';
comment on column marts.lead_analytics.opens_total is 'every human open';
comment on column marts.lead_analytics.clicks_total is 'every human click';
comment on column marts.lead_analytics.opened_machine is 'messages opened by a machine (prefetching proxy or scanner) at least once; may exceed delivered';
comment on column marts.lead_analytics.clicked_machine is 'messages whose links were followed by a scanner at least once';
comment on column marts.lead_analytics.status is 'enrolment status';
comment on column marts.lead_analytics.lead_score is '0 to 100';
comment on column marts.lead_analytics.billing_id is 'window of last_sent';
comment on column marts.lead_analytics.created is 'row creation time, UTC';
comment on column marts.lead_analytics.updated is 'last change, UTC; maintained by a before-update trigger';
create index lead_analytics_tenant_id_lead_id_idx on marts.lead_analytics (tenant_id, lead_id);
create index lead_analytics_tenant_id_lead_score_desc_idx on marts.lead_analytics (tenant_id, lead_score desc) where lead_score >= 75;
create index lead_analytics_updated_idx on marts.lead_analytics (updated);
create index lead_analytics_tenant_id_billing_id_fk on marts.lead_analytics (tenant_id, billing_id) where billing_id is not null;
select penguin.create_hash_partitions('marts.lead_analytics', 16);
select penguin.protect('marts.lead_analytics', 'tenant_isolation');

create table marts.warmup_analytics (
  id bigint generated always as identity,
  tenant_id uuid not null,
  company_id uuid not null,
  mailbox_id uuid not null,
  activity_date date not null,
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
  schedule_type varchar(50),
  warmup_status varchar(20),
  current_day integer,
  total_days integer,
  planned_volume integer,
  health_score smallint,
  progress_percentage smallint not null default 0,
  billing_id bigint,
  is_final boolean not null default false,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  primary key (tenant_id, activity_date, id),
  unique (tenant_id, mailbox_id, activity_date),
  constraint warmup_analytics_warmup_status_allowed check (warmup_status in ('pending', 'active', 'paused', 'completed')),
  constraint warmup_analytics_rule_1 check (bounced = hard_bounced + soft_bounced),
  constraint warmup_analytics_rule_2 check (delivered + bounced <= sent),
  constraint warmup_analytics_rule_3 check (greatest(opened_tracked, clicked_tracked, replied, unsubscribed, spam_complaints) <= delivered),
  constraint warmup_analytics_rule_4 check (least(sent, delivered, opened_tracked, clicked_tracked, replied, bounced, hard_bounced, soft_bounced, unsubscribed, spam_complaints, opens_total, clicks_total, opened_machine, clicked_machine) >= 0),
  constraint warmup_analytics_rule_5 check (progress_percentage between 0 and 100),
  foreign key (tenant_id, billing_id) references marts.billing_analytics (tenant_id, id) on delete set null (billing_id)
) partition by range (activity_date);
comment on table marts.warmup_analytics is 'Daily warmup traffic and progress of a mailbox.';
comment on column marts.warmup_analytics.opened_tracked is 'messages opened by a human at least once';
comment on column marts.warmup_analytics.clicked_tracked is 'messages clicked by a human at least once';
comment on column marts.warmup_analytics.bounced is 'hard plus soft';
comment on column marts.warmup_analytics.hard_bounced is 'needed by hard-bounce rules';
comment on column marts.warmup_analytics.opens_total is 'every human open';
comment on column marts.warmup_analytics.clicks_total is 'every human click';
comment on column marts.warmup_analytics.opened_machine is 'messages opened by a machine (prefetching proxy or scanner) at least once; may exceed delivered';
comment on column marts.warmup_analytics.clicked_machine is 'messages whose links were followed by a scanner at least once';
comment on column marts.warmup_analytics.health_score is 'warmup formula, null for fewer than 3 tracked days';
comment on column marts.warmup_analytics.billing_id is 'usage window that contains activity_date; set by the billing step';
comment on column marts.warmup_analytics.is_final is 'false while the day is open or inside the late-event window';
comment on column marts.warmup_analytics.created is 'row creation time, UTC';
comment on column marts.warmup_analytics.updated is 'last change, UTC; maintained by a before-update trigger';
create index warmup_analytics_tenant_id_activity_date_desc_idx on marts.warmup_analytics (tenant_id, activity_date desc) include (mailbox_id, health_score, progress_percentage);
create index warmup_analytics_mailbox_id_activity_date_desc_idx on marts.warmup_analytics (mailbox_id, activity_date desc);
create index warmup_analytics_activity_date_idx on marts.warmup_analytics using brin (activity_date);
create index warmup_analytics_tenant_id_billing_id_fk on marts.warmup_analytics (tenant_id, billing_id) where billing_id is not null;
select penguin.create_range_partitions('marts.warmup_analytics', 'monthly', (current_date - interval '24 months')::date, (current_date + interval '3 months')::date);
select penguin.protect('marts.warmup_analytics', 'tenant_isolation');

create table marts.infrastructure_analytics (
  id bigint generated always as identity,
  activity_date date not null,
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
  domains_assigned integer not null default 0,
  ip_status varchar(50),
  reputation_state varchar(50),
  reputation_score smallint,
  blacklist_count smallint not null default 0,
  ip_cost numeric(10,4) not null default 0,
  vps_cost numeric(10,4) not null default 0,
  is_final boolean not null default false,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  primary key (activity_date, id),
  unique nulls not distinct (activity_date, smtp_ip_address_id, tenant_id),
  constraint infrastructure_analytics_rule_1 check (bounced = hard_bounced + soft_bounced),
  constraint infrastructure_analytics_rule_2 check (delivered + bounced <= sent),
  constraint infrastructure_analytics_rule_3 check (greatest(opened_tracked, clicked_tracked, replied, unsubscribed, spam_complaints) <= delivered),
  constraint infrastructure_analytics_rule_4 check (least(sent, delivered, opened_tracked, clicked_tracked, replied, bounced, hard_bounced, soft_bounced, unsubscribed, spam_complaints, opens_total, clicks_total, opened_machine, clicked_machine) >= 0)
) partition by range (activity_date);
comment on table marts.infrastructure_analytics is 'Daily traffic, reputation and cost of a sending IP, split by the tenant that used it.';
comment on column marts.infrastructure_analytics.tenant_id is 'null row carries idle cost of the IP';
comment on column marts.infrastructure_analytics.opened_tracked is 'messages opened by a human at least once';
comment on column marts.infrastructure_analytics.clicked_tracked is 'messages clicked by a human at least once';
comment on column marts.infrastructure_analytics.bounced is 'hard plus soft';
comment on column marts.infrastructure_analytics.hard_bounced is 'needed by hard-bounce rules';
comment on column marts.infrastructure_analytics.opens_total is 'every human open';
comment on column marts.infrastructure_analytics.clicks_total is 'every human click';
comment on column marts.infrastructure_analytics.opened_machine is 'messages opened by a machine (prefetching proxy or scanner) at least once; may exceed delivered';
comment on column marts.infrastructure_analytics.clicked_machine is 'messages whose links were followed by a scanner at least once';
comment on column marts.infrastructure_analytics.domains_assigned is 'snapshot';
comment on column marts.infrastructure_analytics.ip_status is 'snapshot';
comment on column marts.infrastructure_analytics.reputation_state is 'snapshot';
comment on column marts.infrastructure_analytics.reputation_score is 'snapshot';
comment on column marts.infrastructure_analytics.blacklist_count is 'snapshot, of 52 lists';
comment on column marts.infrastructure_analytics.ip_cost is 'daily share of the IP price';
comment on column marts.infrastructure_analytics.vps_cost is 'daily share of the server price';
comment on column marts.infrastructure_analytics.created is 'row creation time, UTC';
comment on column marts.infrastructure_analytics.updated is 'last change, UTC; maintained by a before-update trigger';
create index infrastructure_analytics_smtp_ip_address_id_activity_date_desc_ on marts.infrastructure_analytics (smtp_ip_address_id, activity_date desc);
create index infrastructure_analytics_tenant_id_activity_date_desc_idx on marts.infrastructure_analytics (tenant_id, activity_date desc) where tenant_id is not null;
create index infrastructure_analytics_activity_date_idx on marts.infrastructure_analytics using brin (activity_date);
create index infrastructure_analytics_blacklist_count_idx on marts.infrastructure_analytics (blacklist_count) where blacklist_count > 0;
select penguin.create_range_partitions('marts.infrastructure_analytics', 'monthly', (current_date - interval '24 months')::date, (current_date + interval '3 months')::date);
select penguin.protect('marts.infrastructure_analytics', 'tenant_or_staff');

create table marts.campaign_engagement_hourly (
  id bigint generated always as identity,
  tenant_id uuid not null,
  company_id uuid not null,
  campaign_id uuid not null,
  event_hour timestamptz not null,
  device_type varchar(20) not null default 'unknown',
  mail_client varchar(50) not null default 'unknown',
  opens integer not null default 0,
  clicks integer not null default 0,
  replies integer not null default 0,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  primary key (tenant_id, event_hour, id),
  unique (tenant_id, campaign_id, event_hour, device_type, mail_client)
) partition by range (event_hour);
comment on table marts.campaign_engagement_hourly is 'Opens, clicks and replies by event hour and device, for the hour chart, heat map and device split.';
comment on column marts.campaign_engagement_hourly.event_hour is 'UTC hour of the event, not of the send';
comment on column marts.campaign_engagement_hourly.created is 'row creation time, UTC';
comment on column marts.campaign_engagement_hourly.updated is 'last change, UTC; maintained by a before-update trigger';
create index campaign_engagement_hourly_campaign_id_event_hour_idx on marts.campaign_engagement_hourly (campaign_id, event_hour);
create index campaign_engagement_hourly_event_hour_idx on marts.campaign_engagement_hourly using brin (event_hour);
select penguin.create_range_partitions('marts.campaign_engagement_hourly', 'monthly', (current_date - interval '24 months')::date, (current_date + interval '3 months')::date);
select penguin.protect('marts.campaign_engagement_hourly', 'tenant_isolation');
