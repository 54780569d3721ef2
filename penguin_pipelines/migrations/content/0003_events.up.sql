-- What happened to a message: opens, clicks, bounces, replies, unsubscribes, complaints, warmup.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create table email_opens (
  id bigint generated always as identity,
  tenant_id uuid not null,
  storage_key varchar(500) not null,
  company_id uuid,
  campaign_id uuid,
  sequence_step_id uuid,
  email_account_id uuid,
  lead_id uuid,
  event_key varchar(128) not null,
  opened timestamptz not null,
  ip_address inet,
  user_agent text,
  device_type varchar(20),
  mail_client varchar(50),
  country char(2),
  is_bot boolean not null default false,
  created timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id, opened),
  unique (event_key, opened),
  constraint email_opens_device_type_allowed check (device_type in ('desktop', 'mobile', 'tablet', 'unknown'))
) partition by range (opened);
comment on table email_opens is 'Each load of a tracking pixel.';
comment on column email_opens.event_key is 'provider event id, or hash of message, kind, time and source; makes replays harmless';
comment on column email_opens.opened is 'event time';
comment on column email_opens.is_bot is 'image proxies that prefetch, security scanners';
comment on column email_opens.created is 'ingest time';
comment on column email_opens.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index email_opens_storage_key_opened_idx on email_opens (storage_key, opened);
create index email_opens_tenant_id_opened_idx on email_opens (tenant_id, opened);
create index email_opens_campaign_id_opened_idx on email_opens (campaign_id, opened) include (device_type, mail_client) where not is_bot;
create index email_opens_created_idx on email_opens using brin (created);
select penguin.create_range_partitions('email_opens', 'monthly', (current_date - interval '6 months')::date, (current_date + interval '3 months')::date);
select penguin.protect('email_opens', 'tenant_isolation');
select penguin.track('email_opens');

create table email_clicks (
  id bigint generated always as identity,
  tenant_id uuid not null,
  storage_key varchar(500) not null,
  company_id uuid,
  campaign_id uuid,
  sequence_step_id uuid,
  email_account_id uuid,
  lead_id uuid,
  event_key varchar(128) not null,
  clicked timestamptz not null,
  clicked_url text not null,
  ip_address inet,
  user_agent text,
  device_type varchar(20),
  country char(2),
  is_bot boolean not null default false,
  created timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id, clicked),
  unique (event_key, clicked),
  constraint email_clicks_device_type_allowed check (device_type in ('desktop', 'mobile', 'tablet', 'unknown'))
) partition by range (clicked);
comment on table email_clicks is 'Each use of a tracked link.';
comment on column email_clicks.event_key is 'provider event id, or hash of message, kind, time and source; makes replays harmless';
comment on column email_clicks.created is 'row creation time, UTC';
comment on column email_clicks.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index email_clicks_storage_key_clicked_idx on email_clicks (storage_key, clicked);
create index email_clicks_tenant_id_clicked_idx on email_clicks (tenant_id, clicked);
create index email_clicks_campaign_id_clicked_idx on email_clicks (campaign_id, clicked) where not is_bot;
create index email_clicks_created_idx on email_clicks using brin (created);
select penguin.create_range_partitions('email_clicks', 'monthly', (current_date - interval '6 months')::date, (current_date + interval '3 months')::date);
select penguin.protect('email_clicks', 'tenant_isolation');
select penguin.track('email_clicks');

create table email_bounces (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  storage_key varchar(500) not null,
  company_id uuid,
  campaign_id uuid,
  sequence_step_id uuid,
  email_account_id uuid,
  lead_id uuid,
  event_key varchar(128) not null,
  bounced timestamptz not null,
  bounce_type varchar(50) not null,
  bounce_code varchar(20),
  bounce_reason text,
  created timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (event_key),
  constraint email_bounces_bounce_type_allowed check (bounce_type in ('hard', 'soft'))
);
comment on table email_bounces is 'Delivery failure report for a message.';
comment on column email_bounces.event_key is 'provider event id, or hash of message, kind, time and source; makes replays harmless';
comment on column email_bounces.bounce_code is 'enhanced status code';
comment on column email_bounces.created is 'row creation time, UTC';
comment on column email_bounces.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index email_bounces_storage_key_idx on email_bounces (storage_key);
create index email_bounces_tenant_id_bounced_idx on email_bounces (tenant_id, bounced);
create index email_bounces_email_account_id_bounced_idx on email_bounces (email_account_id, bounced) include (bounce_type);
create index email_bounces_created_idx on email_bounces using brin (created);
select penguin.protect('email_bounces', 'tenant_isolation');
select penguin.track('email_bounces');

create table email_replies (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  storage_key varchar(500) not null,
  company_id uuid,
  campaign_id uuid,
  sequence_step_id uuid,
  email_account_id uuid,
  lead_id uuid,
  event_key varchar(128) not null,
  replied timestamptz not null,
  reply_storage_key varchar(500),
  is_auto_reply boolean not null default false,
  created timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (event_key)
);
comment on table email_replies is 'Inbound answer matched to an outbound message.';
comment on column email_replies.event_key is 'provider event id, or hash of message, kind, time and source; makes replays harmless';
comment on column email_replies.is_auto_reply is 'excluded from reply figures';
comment on column email_replies.created is 'row creation time, UTC';
comment on column email_replies.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index email_replies_storage_key_idx on email_replies (storage_key);
create index email_replies_tenant_id_replied_idx on email_replies (tenant_id, replied);
create index email_replies_campaign_id_replied_idx on email_replies (campaign_id, replied) where not is_auto_reply;
create index email_replies_created_idx on email_replies using brin (created);
select penguin.protect('email_replies', 'tenant_isolation');
select penguin.track('email_replies');

create table email_unsubscribes (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  storage_key varchar(500) not null,
  company_id uuid,
  campaign_id uuid,
  sequence_step_id uuid,
  email_account_id uuid,
  lead_id uuid,
  event_key varchar(128) not null,
  unsubscribed timestamptz not null,
  method varchar(30) not null,
  created timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (event_key),
  constraint email_unsubscribes_method_allowed check (method in ('link', 'list_unsubscribe', 'reply', 'manual'))
);
comment on table email_unsubscribes is 'Request to stop, by link, header or reply.';
comment on column email_unsubscribes.event_key is 'provider event id, or hash of message, kind, time and source; makes replays harmless';
comment on column email_unsubscribes.created is 'row creation time, UTC';
comment on column email_unsubscribes.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index email_unsubscribes_storage_key_idx on email_unsubscribes (storage_key);
create index email_unsubscribes_tenant_id_unsubscribed_idx on email_unsubscribes (tenant_id, unsubscribed);
select penguin.protect('email_unsubscribes', 'tenant_isolation');
select penguin.track('email_unsubscribes');

create table email_complaints (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  storage_key varchar(500) not null,
  company_id uuid,
  campaign_id uuid,
  sequence_step_id uuid,
  email_account_id uuid,
  lead_id uuid,
  event_key varchar(128) not null,
  complained timestamptz not null,
  provider varchar(50),
  feedback_type varchar(30) not null default 'abuse',
  created timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (event_key)
);
comment on table email_complaints is 'Spam report from a mailbox provider feedback loop.';
comment on column email_complaints.event_key is 'provider event id, or hash of message, kind, time and source; makes replays harmless';
comment on column email_complaints.created is 'row creation time, UTC';
comment on column email_complaints.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index email_complaints_storage_key_idx on email_complaints (storage_key);
create index email_complaints_tenant_id_complained_idx on email_complaints (tenant_id, complained);
create index email_complaints_email_account_id_complained_idx on email_complaints (email_account_id, complained);
select penguin.protect('email_complaints', 'tenant_isolation');
select penguin.track('email_complaints');

create table warmup_interactions (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  email_account_id uuid not null,
  storage_key varchar(500),
  interaction_type varchar(50) not null,
  partner_mailbox varchar(255),
  event_key varchar(128) not null,
  interacted timestamptz not null,
  created timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id, interacted),
  unique (event_key, interacted),
  constraint warmup_interactions_interaction_type_allowed check (interaction_type in ('open', 'click', 'reply', 'rescued_from_spam'))
) partition by range (interacted);
comment on table warmup_interactions is 'Open or reply by a warmup partner mailbox.';
comment on column warmup_interactions.created is 'row creation time, UTC';
comment on column warmup_interactions.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index warmup_interactions_email_account_id_interacted_idx on warmup_interactions (email_account_id, interacted);
create index warmup_interactions_tenant_id_interacted_idx on warmup_interactions (tenant_id, interacted);
select penguin.create_range_partitions('warmup_interactions', 'monthly', (current_date - interval '6 months')::date, (current_date + interval '3 months')::date);
select penguin.protect('warmup_interactions', 'tenant_isolation');
select penguin.track('warmup_interactions');
