-- Stored objects, bodies, message traces and files.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create table content_objects (
  storage_key varchar(500) not null,
  tenant_id uuid not null,
  object_kind varchar(20) not null,
  raw_size_bytes bigint not null default 0,
  compressed_size_bytes bigint,
  compression_algorithm varchar(20),
  content_hash varchar(64),
  duplicate_of varchar(500),
  storage_tier varchar(10) not null default 'hot',
  retention_days integer not null default 2555,
  expires timestamptz,
  archived timestamptz,
  is_archived boolean not null default false,
  last_accessed timestamptz,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (storage_key),
  constraint content_objects_object_kind_allowed check (object_kind in ('email', 'attachment_set', 'transactional', 'notification', 'export', 'report')),
  constraint content_objects_compression_algorithm_allowed check (compression_algorithm in ('none', 'lz4', 'zstd', 'zstd_dict', 'deduplicated')),
  constraint content_objects_storage_tier_allowed check (storage_tier in ('hot', 'warm', 'cold', 'archive')),
  foreign key (duplicate_of) references content_objects (storage_key) on delete restrict
);
comment on table content_objects is 'Envelope of every stored object: size, hash, storage class and life cycle. Carries no message text, so life-cycle scans stay narrow.';
comment on column content_objects.storage_key is '<tenant uuid>/<yyyy>/<mm>/<kind>/<uuid>; at most 500 characters; unguessable, never reused';
comment on column content_objects.compressed_size_bytes is 'null while uncompressed';
comment on column content_objects.compression_algorithm is 'deduplicated means the body lives under duplicate_of';
comment on column content_objects.content_hash is 'SHA-256 of the normalised body';
comment on column content_objects.duplicate_of is 'pointer to the master copy in the same tenant';
comment on column content_objects.expires is 'created plus retention_days unless a policy or legal hold says otherwise';
comment on column content_objects.last_accessed is 'sampled, at most one write per object per day';
comment on column content_objects.created is 'row creation time, UTC';
comment on column content_objects.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column content_objects.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index content_objects_tenant_id_created_desc_idx on content_objects (tenant_id, created desc);
create index content_objects_expires_idx on content_objects (expires) where expires is not null and not is_archived;
create index content_objects_is_archived_archived_idx on content_objects (is_archived, archived) where is_archived;
create index content_objects_tenant_id_content_hash_idx on content_objects (tenant_id, content_hash) where content_hash is not null;
create index content_objects_storage_tier_created_raw_size_bytes_idx on content_objects (storage_tier, created, raw_size_bytes) where not is_archived;
create index content_objects_created_idx on content_objects using brin (created);
create index content_objects_duplicate_of_fk on content_objects (duplicate_of) where duplicate_of is not null;
select penguin.protect('content_objects', 'tenant_isolation');
select penguin.track('content_objects');

create table email_content (
  storage_key varchar(500) not null,
  tenant_id uuid not null,
  content_text text,
  content_html text,
  headers jsonb,
  content_compressed bytea,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (storage_key),
  foreign key (storage_key) references content_objects (storage_key) on delete cascade
);
comment on table email_content is 'Body of one email: text, HTML and headers. Read only when somebody opens the message.';
comment on column email_content.content_compressed is 'holds text and html as one compressed block when the envelope names an algorithm other than none';
comment on column email_content.created is 'row creation time, UTC';
comment on column email_content.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column email_content.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index email_content_tenant_id_created_desc_idx on email_content (tenant_id, created desc);
select penguin.protect('email_content', 'tenant_isolation');
select penguin.track('email_content');

create table email_messages (
  storage_key varchar(500) not null,
  message_ref_id uuid,
  tenant_id uuid not null,
  company_id uuid,
  domain_id uuid,
  email_account_id uuid,
  smtp_ip_address_id uuid,
  campaign_id uuid,
  sequence_step_id uuid,
  lead_id uuid,
  parent_message_id varchar(500),
  direction varchar(20) not null,
  message_type varchar(20) not null default 'email',
  is_warmup boolean not null default false,
  internet_message_id varchar(998),
  from_email varchar(254) not null,
  to_email varchar(254) not null,
  subject varchar(500),
  status varchar(50) not null default 'queued',
  queued timestamptz,
  sent timestamptz,
  delivered timestamptz,
  opened timestamptz,
  clicked timestamptz,
  replied timestamptz,
  bounced timestamptz,
  bounce_type varchar(10),
  unsubscribed timestamptz,
  complained timestamptz,
  failed timestamptz,
  open_count integer not null default 0,
  click_count integer not null default 0,
  processed timestamptz,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (storage_key),
  constraint email_messages_direction_allowed check (direction in ('inbound', 'outbound')),
  constraint email_messages_message_type_allowed check (message_type in ('email', 'bounce', 'auto_reply')),
  constraint email_messages_status_allowed check (status in ('queued', 'sent', 'delivered', 'bounced', 'failed', 'opened', 'replied', 'received')),
  constraint email_messages_bounce_type_allowed check (bounce_type in ('hard', 'soft')),
  constraint email_messages_rule_1 check ((bounced is null) = (bounce_type is null)),
  foreign key (parent_message_id) references email_messages (storage_key) on delete set null
);
comment on table email_messages is 'Durable trace of each message and what happened to it; the source of every delivery and engagement figure.';
comment on column email_messages.smtp_ip_address_id is 'IP that carried the message; source for infrastructure analytics';
comment on column email_messages.status is 'display state only; never aggregate on it';
comment on column email_messages.sent is 'time the receiving server accepted the hand-over or the send was attempted; decides the activity date';
comment on column email_messages.opened is 'first human open';
comment on column email_messages.clicked is 'first human click';
comment on column email_messages.replied is 'first real reply, auto replies excluded';
comment on column email_messages.failed is 'never left our side';
comment on column email_messages.processed is 'last time analytics consumed the row';
comment on column email_messages.created is 'row creation time, UTC';
comment on column email_messages.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column email_messages.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index email_messages_tenant_id_sent_idx on email_messages (tenant_id, sent) include (campaign_id, email_account_id, sequence_step_id) where sent is not null;
create index email_messages_campaign_id_sent_idx on email_messages (campaign_id, sent);
create index email_messages_campaign_id_status_idx on email_messages (campaign_id, status);
create index email_messages_sequence_step_id_sent_idx on email_messages (sequence_step_id, sent) where sequence_step_id is not null;
create index email_messages_email_account_id_sent_idx on email_messages (email_account_id, sent);
create index email_messages_lead_id_created_desc_idx on email_messages (lead_id, created desc);
create index email_messages_parent_message_id_idx on email_messages (parent_message_id) where parent_message_id is not null;
create index email_messages_internet_message_hash_idx on email_messages (hashtextextended(internet_message_id, 0)) where internet_message_id is not null;
create index email_messages_smtp_ip_address_id_sent_idx on email_messages (smtp_ip_address_id, sent) where smtp_ip_address_id is not null;
create index email_messages_message_ref_id_idx on email_messages (message_ref_id) where message_ref_id is not null;
select penguin.protect('email_messages', 'tenant_isolation');
select penguin.track('email_messages');

create view content_inbox_message_refs with (security_invoker = true) as
select storage_key, tenant_id, email_account_id, campaign_id, lead_id, parent_message_id, direction, message_type, from_email, to_email, subject, status, processed, created, updated
from email_messages;
comment on view content_inbox_message_refs is 'Name used by the first generation for email_messages. Kept as a read-only view so old readers keep working until they move.';
grant select on content_inbox_message_refs to pm_app, pm_worker, pm_staff, pm_loader, pm_etl;

create table attachments (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  parent_storage_key varchar(500) not null,
  filename varchar(255) not null,
  original_filename varchar(255),
  mime_type varchar(100) not null,
  size_bytes bigint not null,
  compressed_size_bytes bigint,
  content bytea not null,
  storage_disposition varchar(50) not null default 'attachment',
  content_id varchar(255),
  content_hash varchar(64),
  compression_algorithm varchar(20),
  duplicate_of uuid,
  is_scanned boolean not null default false,
  virus_scan_result varchar(50),
  created timestamptz not null default now(),
  archived timestamptz,
  expires timestamptz,
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  constraint attachments_storage_disposition_allowed check (storage_disposition in ('inline', 'attachment')),
  constraint attachments_compression_algorithm_allowed check (compression_algorithm in ('none', 'lz4', 'zstd', 'zstd_dict', 'deduplicated')),
  constraint attachments_virus_scan_result_allowed check (virus_scan_result in ('clean', 'infected', 'error', 'skipped')),
  constraint attachments_rule_1 check (compression_algorithm is distinct from 'deduplicated' or octet_length(content) = 0),
  foreign key (parent_storage_key) references content_objects (storage_key) on delete cascade,
  foreign key (duplicate_of) references attachments (id) on delete restrict
);
comment on table attachments is 'File that belongs to a stored object.';
comment on column attachments.parent_storage_key is 'content_objects, so reports and notifications can carry files too';
comment on column attachments.filename is 'sanitised';
comment on column attachments.content is 'file bytes';
comment on column attachments.content_id is 'for inline images';
comment on column attachments.created is 'row creation time, UTC';
comment on column attachments.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index attachments_parent_storage_key_idx on attachments (parent_storage_key) include (filename, mime_type, size_bytes);
create index attachments_tenant_id_content_hash_idx on attachments (tenant_id, content_hash) where content_hash is not null;
create index attachments_created_idx on attachments (created) where not is_scanned;
create index attachments_expires_idx on attachments (expires) where expires is not null;
create index attachments_duplicate_of_fk on attachments (duplicate_of) where duplicate_of is not null;
select penguin.protect('attachments', 'tenant_isolation');
select penguin.track('attachments');
