-- Plans, contracts, add-ons, their history and payments.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create table plans (
  id uuid not null default gen_random_uuid(),
  name varchar(100) not null,
  slug varchar(100) not null,
  description text,
  max_users integer,
  max_workspaces integer,
  max_domains integer,
  max_email_accounts integer,
  max_campaigns_per_month integer,
  max_emails_per_month integer,
  max_warmups integer,
  max_contacts integer,
  max_storage_gb integer,
  dedicated_ips integer not null default 0,
  api_rate_limit integer,
  api_access boolean not null default false,
  priority_support boolean not null default false,
  advanced_analytics boolean not null default false,
  white_label boolean not null default false,
  price_monthly integer,
  price_yearly integer,
  notes text,
  is_active boolean not null default true,
  stripe_product_id varchar(255),
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (slug)
);
comment on table plans is 'Price list entry with limits and feature switches. A null limit means unlimited.';
comment on column plans.dedicated_ips is 'Business includes one';
comment on column plans.api_rate_limit is 'requests per second';
comment on column plans.price_monthly is 'US cents; null for custom pricing';
comment on column plans.price_yearly is 'US cents per year';
comment on column plans.created is 'row creation time, UTC';
comment on column plans.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column plans.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index plans_stripe_product_id_idx on plans (stripe_product_id) where stripe_product_id is not null;
create index plans_is_active_price_monthly_idx on plans (is_active, price_monthly) where is_active;
select penguin.protect('plans', 'public_read_staff_write');
select penguin.track('plans');

create table subscriptions (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  plan_id uuid not null,
  pending_plan_id uuid,
  status varchar(50) not null,
  billing_interval varchar(10) not null default 'month',
  current_period_start timestamptz not null,
  current_period_end timestamptz not null,
  cancel_at_period_end boolean not null default false,
  cancel_reason text,
  cancel_date timestamptz,
  billing_contact_user_id uuid,
  stripe_subscription_id varchar(255),
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (tenant_id, id),
  constraint subscriptions_status_allowed check (status in ('trialing', 'active', 'past_due', 'suspended', 'canceled', 'unpaid')),
  constraint subscriptions_billing_interval_allowed check (billing_interval in ('month', 'year')),
  constraint subscriptions_rule_1 check (current_period_end > current_period_start),
  foreign key (tenant_id) references tenants (id) on delete restrict,
  foreign key (plan_id) references plans (id) on delete restrict,
  foreign key (pending_plan_id) references plans (id) on delete restrict,
  foreign key (billing_contact_user_id) references users (id) on delete set null
);
comment on table subscriptions is 'Contract of a tenant for a plan, mirrored from Stripe.';
comment on column subscriptions.pending_plan_id is 'takes effect at the next period';
comment on column subscriptions.billing_interval is 'needed to turn a yearly price into monthly revenue';
comment on column subscriptions.cancel_date is 'when cancellation was requested';
comment on column subscriptions.created is 'row creation time, UTC';
comment on column subscriptions.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column subscriptions.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create unique index subscriptions_stripe_subscription_id_key on subscriptions (stripe_subscription_id) where stripe_subscription_id is not null;
create unique index subscriptions_tenant_id_key on subscriptions (tenant_id) where status in ('trialing','active','past_due','suspended','unpaid');
create index subscriptions_status_current_period_end_idx on subscriptions (status, current_period_end);
create index subscriptions_plan_id_idx on subscriptions (plan_id);
create index subscriptions_pending_plan_id_fk on subscriptions (pending_plan_id) where pending_plan_id is not null;
create index subscriptions_billing_contact_user_id_fk on subscriptions (billing_contact_user_id) where billing_contact_user_id is not null;
select penguin.protect('subscriptions', 'tenant_isolation');
select penguin.track('subscriptions');

create table subscription_addons (
  id varchar(255) not null,
  tenant_id uuid not null,
  subscription_id uuid not null,
  addon_type varchar(50) not null,
  quantity integer not null default 1,
  price_monthly numeric(10,2) not null,
  stripe_price_id varchar(255),
  is_active boolean not null default true,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  constraint subscription_addons_addon_type_allowed check (addon_type in ('extra_emails', 'extra_user', 'dedicated_ip', 'extra_workspace', 'priority_support')),
  foreign key (tenant_id) references tenants (id) on delete restrict,
  foreign key (tenant_id, subscription_id) references subscriptions (tenant_id, id) on delete restrict
);
comment on table subscription_addons is 'Extra capacity bought on top of a plan; key is the Stripe item id.';
comment on column subscription_addons.id is 'Stripe subscription item id';
comment on column subscription_addons.tenant_id is 'denormalised for RLS';
comment on column subscription_addons.price_monthly is 'US dollars per unit, note the different unit from plans';
comment on column subscription_addons.created is 'row creation time, UTC';
comment on column subscription_addons.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column subscription_addons.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index subscription_addons_subscription_id_idx on subscription_addons (subscription_id) where is_active;
create index subscription_addons_tenant_id_fk on subscription_addons (tenant_id);
select penguin.protect('subscription_addons', 'tenant_isolation');
select penguin.track('subscription_addons');

create table subscription_changes (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  subscription_id uuid not null,
  plan_id uuid not null,
  status varchar(50) not null,
  billing_interval varchar(10) not null,
  mrr_cents bigint not null,
  reason varchar(30) not null,
  effective timestamptz not null,
  created timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  constraint subscription_changes_status_allowed check (status in ('trialing', 'active', 'past_due', 'suspended', 'canceled', 'unpaid')),
  constraint subscription_changes_billing_interval_allowed check (billing_interval in ('month', 'year')),
  constraint subscription_changes_reason_allowed check (reason in ('created', 'plan_change', 'price_change', 'addon_change', 'status_change')),
  foreign key (tenant_id) references tenants (id) on delete restrict,
  foreign key (tenant_id, subscription_id) references subscriptions (tenant_id, id) on delete restrict,
  foreign key (plan_id) references plans (id) on delete restrict
);
comment on table subscription_changes is 'Append-only history of plan, price and status of a subscription; the source of revenue history.';
comment on column subscription_changes.tenant_id is 'owning tenant';
comment on column subscription_changes.mrr_cents is 'monthly recurring revenue in US cents at the price of the day, add-ons included; 0 unless active or past_due';
comment on column subscription_changes.effective is 'from when the new state holds';
comment on column subscription_changes.created is 'row creation time, UTC';
comment on column subscription_changes.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index subscription_changes_tenant_id_effective_desc_idx on subscription_changes (tenant_id, effective desc);
create index subscription_changes_subscription_id_effective_desc_idx on subscription_changes (subscription_id, effective desc);
create index subscription_changes_plan_id_idx on subscription_changes (plan_id);
select penguin.protect('subscription_changes', 'tenant_isolation');
select penguin.track('subscription_changes');

create table payments (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  subscription_id uuid not null,
  initiated_by_user_id uuid,
  amount numeric(10,2) not null,
  currency varchar(3) not null default 'USD',
  status varchar(20) not null,
  processed timestamptz,
  description text,
  stripe_payment_intent_id varchar(255),
  billing_period_start timestamptz,
  billing_period_end timestamptz,
  created timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  constraint payments_status_allowed check (status in ('pending', 'succeeded', 'failed', 'refunded')),
  foreign key (tenant_id) references tenants (id) on delete restrict,
  foreign key (tenant_id, subscription_id) references subscriptions (tenant_id, id) on delete restrict,
  foreign key (initiated_by_user_id) references users (id) on delete set null
);
comment on table payments is 'Charge attempt or refund, a thin copy that links to Stripe.';
comment on column payments.tenant_id is 'denormalised for RLS';
comment on column payments.amount is 'major units; refunds negative';
comment on column payments.processed is 'when the money moved';
comment on column payments.created is 'row creation time, UTC';
comment on column payments.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create unique index payments_stripe_payment_intent_id_status_key on payments (stripe_payment_intent_id, status) where stripe_payment_intent_id is not null;
create index payments_subscription_id_created_desc_idx on payments (subscription_id, created desc);
create index payments_tenant_id_processed_desc_idx on payments (tenant_id, processed desc) include (amount, currency, status);
create index payments_status_created_idx on payments (status, created) where status = 'failed';
create index payments_initiated_by_user_id_fk on payments (initiated_by_user_id) where initiated_by_user_id is not null;
select penguin.protect('payments', 'tenant_isolation');
select penguin.track('payments');

-- Price list. Staff may write plans, so the rows arrive through the same policy as later edits.
set local role pm_staff;
insert into plans (name, slug, max_emails_per_month, max_users, max_workspaces, max_domains, api_rate_limit, dedicated_ips, api_access, priority_support, advanced_analytics, white_label, price_monthly, price_yearly)
values
  ('Starter',      'starter',       10000,    2,    3,    5,   10, 0, false, false, false, false,  4900,  47000),
  ('Professional', 'professional',  50000,    5,   10,   15, null, 0, true,  false, true,  false, 14900, 143000),
  ('Business',     'business',     200000,   15, null, null,  100, 1, true,  true,  true,  false, 39900, 383000),
  ('Enterprise',   'enterprise',     null, null, null, null, null, 1, true,  true,  true,  true,   null,   null)
on conflict (slug) do nothing;
set local role pm_owner;
