-- Who must not be mailed, and why: derived from bounces, complaints and unsubscribes, beside the list that the application keeps.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create table marts.suppression (
  id bigint generated always as identity,
  tenant_id uuid not null,
  recipient_pseudonym text not null,
  recipient_domain varchar(253),
  lead_id uuid,
  reason varchar(50) not null,
  source varchar(20) not null,
  suppressed timestamptz not null,
  storage_key varchar(500),
  status_code varchar(20),
  rule_version smallint not null,
  is_listed boolean not null default false,
  listed timestamptz,
  listed_reason varchar(50),
  expires timestamptz,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  primary key (tenant_id, id),
  unique (tenant_id, recipient_pseudonym),
  constraint suppression_reason_allowed check (reason in ('hard_bounce', 'soft_bounce_limit', 'unsubscribe', 'spam_complaint', 'manual', 'legal')),
  constraint suppression_source_allowed check (source in ('event', 'list'))
);
comment on table marts.suppression is 'Recipients that must not be mailed any more, one row for each tenant and recipient, with what the list of the application says.';
comment on column marts.suppression.recipient_pseudonym is 'keyed hash of the address, never the address itself';
comment on column marts.suppression.reason is 'the earliest reason by the rules; that of the list where no event gives one';
comment on column marts.suppression.source is 'event: follows from what happened to mail; list: stands on the list alone';
comment on column marts.suppression.suppressed is 'from when the recipient must not be mailed, UTC';
comment on column marts.suppression.storage_key is 'message that caused it';
comment on column marts.suppression.status_code is 'enhanced status code of the bounce that caused it';
comment on column marts.suppression.rule_version is 'version of the rules that decided it';
comment on column marts.suppression.is_listed is 'the list of the application holds the recipient for this tenant or for all';
comment on column marts.suppression.expires is 'end of the entry on the list; null means never';
comment on column marts.suppression.created is 'row creation time, UTC';
comment on column marts.suppression.updated is 'last change, UTC; maintained by a before-update trigger';
create index suppression_tenant_id_suppressed_desc_idx on marts.suppression (tenant_id, suppressed desc);
create index suppression_tenant_id_lead_id_idx on marts.suppression (tenant_id, lead_id) where lead_id is not null;
select penguin.protect('marts.suppression', 'tenant_isolation');
