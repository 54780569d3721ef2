-- Servers, sending IPs, who sends through them and what blacklists say.
-- When: before the deploy. Locks: none that others wait for; every object is new.

create table vps_instances (
  id uuid not null default gen_random_uuid(),
  hostwinds_instance_id varchar(255),
  ip_address varchar(45),
  region varchar(50),
  status varchar(50) not null default 'provisioning',
  monthly_cost numeric(10,2),
  approximate_cost numeric(8,2),
  hostwinds_billing_day integer,
  current_billing_period_start timestamptz,
  current_billing_period_end timestamptz,
  decommission_scheduled_for timestamptz,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  constraint vps_instances_status_allowed check (status in ('provisioning', 'active', 'scheduled_decommission', 'decommissioned')),
  constraint vps_instances_rule_1 check (approximate_cost >= 0),
  constraint vps_instances_rule_2 check (hostwinds_billing_day between 1 and 28)
);
comment on table vps_instances is 'Rented server that carries sending IPs.';
comment on column vps_instances.ip_address is 'management address';
comment on column vps_instances.approximate_cost is 'figure used for cost attribution, not below 0';
comment on column vps_instances.hostwinds_billing_day is '1 to 28';
comment on column vps_instances.created is 'row creation time, UTC';
comment on column vps_instances.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column vps_instances.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create unique index vps_instances_hostwinds_instance_id_key on vps_instances (hostwinds_instance_id) where hostwinds_instance_id is not null;
create index vps_instances_status_idx on vps_instances (status);
create index vps_instances_decommission_scheduled_for_idx on vps_instances (decommission_scheduled_for) where status = 'scheduled_decommission';
select penguin.protect('vps_instances', 'staff_only');
select penguin.track('vps_instances');

create table smtp_ip_addresses (
  id uuid not null default gen_random_uuid(),
  vps_instance_id uuid not null,
  ip_address varchar(45) not null,
  status varchar(50) not null default 'available',
  reputation_state varchar(50),
  reputation_score smallint,
  approximate_cost numeric(6,2) default 4.99,
  last_reputation_check timestamptz,
  assigned_count integer not null default 0,
  provider_blacklist_status jsonb,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  unique (ip_address),
  constraint smtp_ip_addresses_status_allowed check (status in ('available', 'assigned', 'warming', 'warmed', 'degraded', 'burned', 'quarantined')),
  constraint smtp_ip_addresses_reputation_state_allowed check (reputation_state in ('good', 'fair', 'poor', 'critical')),
  foreign key (vps_instance_id) references vps_instances (id) on delete restrict
);
comment on table smtp_ip_addresses is 'Sending IP on a server with its life cycle and reputation.';
comment on column smtp_ip_addresses.reputation_score is '0 to 100 from the last check; below 70 warns';
comment on column smtp_ip_addresses.approximate_cost is 'US dollars per month';
comment on column smtp_ip_addresses.assigned_count is 'number of live assignments, maintained by trigger';
comment on column smtp_ip_addresses.provider_blacklist_status is 'list name to listed flag and time; 52 lists';
comment on column smtp_ip_addresses.created is 'row creation time, UTC';
comment on column smtp_ip_addresses.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column smtp_ip_addresses.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index smtp_ip_addresses_status_assigned_count_idx on smtp_ip_addresses (status, assigned_count) where status in ('available','warmed');
create index smtp_ip_addresses_last_reputation_check_idx on smtp_ip_addresses (last_reputation_check) where status not in ('burned');
create index smtp_ip_addresses_vps_instance_id_idx on smtp_ip_addresses (vps_instance_id);
select penguin.protect('smtp_ip_addresses', 'staff_only');
select penguin.track('smtp_ip_addresses');

create table domain_ip_assignments (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  domain_id uuid not null,
  smtp_ip_address_id uuid not null,
  status varchar(50) not null default 'scheduled',
  warmup_state varchar(50) not null default 'unwarmed',
  assigned timestamptz not null default now(),
  expires timestamptz,
  last_sent timestamptz,
  created timestamptz not null default now(),
  updated timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  constraint domain_ip_assignments_status_allowed check (status in ('scheduled', 'warming', 'active', 'expired')),
  constraint domain_ip_assignments_warmup_state_allowed check (warmup_state in ('unwarmed', 'warming', 'warmed')),
  foreign key (tenant_id) references tenants (id) on delete cascade,
  foreign key (tenant_id, domain_id) references domains (tenant_id, id) on delete cascade,
  foreign key (smtp_ip_address_id) references smtp_ip_addresses (id) on delete restrict
);
comment on table domain_ip_assignments is 'Which domain sends through which IP and for how long.';
comment on column domain_ip_assignments.created is 'row creation time, UTC';
comment on column domain_ip_assignments.updated is 'last change, UTC; maintained by a before-update trigger';
comment on column domain_ip_assignments.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create unique index domain_ip_assignments_domain_id_smtp_ip_address_id_key on domain_ip_assignments (domain_id, smtp_ip_address_id) where status <> 'expired';
create index domain_ip_assignments_domain_id_status_idx on domain_ip_assignments (domain_id, status) include (smtp_ip_address_id, warmup_state);
create index domain_ip_assignments_smtp_ip_address_id_idx on domain_ip_assignments (smtp_ip_address_id) where status in ('active','warming');
create index domain_ip_assignments_expires_idx on domain_ip_assignments (expires) where expires is not null and status <> 'expired';
create index domain_ip_assignments_tenant_id_idx on domain_ip_assignments (tenant_id);
select penguin.protect('domain_ip_assignments', 'tenant_isolation');
select penguin.track('domain_ip_assignments');

create table blacklist_checks (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid,
  check_type varchar(20) not null,
  smtp_ip_address_id uuid,
  domain_id uuid,
  check_value varchar(255) not null,
  blacklist_name varchar(255) not null,
  is_listed boolean not null default false,
  listing_reason text,
  listed_since timestamptz,
  delisted timestamptz,
  checked timestamptz not null default now(),
  created timestamptz not null default now(),
  change_xid xid8 not null default pg_current_xact_id(),
  primary key (id),
  constraint blacklist_checks_check_type_allowed check (check_type in ('ip', 'domain')),
  foreign key (tenant_id) references tenants (id) on delete cascade,
  foreign key (smtp_ip_address_id) references smtp_ip_addresses (id) on delete cascade,
  foreign key (tenant_id, domain_id) references domains (tenant_id, id) on delete cascade
);
comment on table blacklist_checks is 'Result of one look-up of an IP or domain on one blacklist, kept when state changes.';
comment on column blacklist_checks.tenant_id is 'set for domain checks only';
comment on column blacklist_checks.created is 'row creation time, UTC';
comment on column blacklist_checks.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
create index blacklist_checks_check_value_blacklist_name_checked_desc_idx on blacklist_checks (check_value, blacklist_name, checked desc);
create index blacklist_checks_smtp_ip_address_id_checked_desc_idx on blacklist_checks (smtp_ip_address_id, checked desc) where is_listed;
create index blacklist_checks_tenant_id_fk on blacklist_checks (tenant_id) where tenant_id is not null;
create index blacklist_checks_tenant_id_domain_id_fk on blacklist_checks (tenant_id, domain_id) where domain_id is not null;
select penguin.protect('blacklist_checks', 'tenant_or_global_staff_write');
select penguin.track('blacklist_checks');

-- Keeps smtp_ip_addresses.assigned_count equal to the live assignments of the IP.
create function penguin.count_assignments() returns trigger language plpgsql security definer set search_path = pg_catalog, public as $$
begin
  if tg_op in ('UPDATE', 'DELETE') and old.status <> 'expired' then
    update smtp_ip_addresses set assigned_count = assigned_count - 1 where id = old.smtp_ip_address_id;
  end if;
  if tg_op in ('INSERT', 'UPDATE') and new.status <> 'expired' then
    update smtp_ip_addresses set assigned_count = assigned_count + 1 where id = new.smtp_ip_address_id;
  end if;
  return null;
end
$$;
create trigger count_assignments after insert or delete or update of status, smtp_ip_address_id on domain_ip_assignments
for each row execute function penguin.count_assignments();
-- The function runs as owner, whom FORCE binds too; this policy lets it touch the counter.
create policy owner_counts on smtp_ip_addresses to pm_owner using (true) with check (true);
