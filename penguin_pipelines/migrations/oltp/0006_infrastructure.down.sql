-- Takes back 0006_infrastructure.
drop function if exists penguin.count_assignments cascade;
drop table if exists blacklist_checks;
drop table if exists domain_ip_assignments;
drop table if exists smtp_ip_addresses;
drop table if exists vps_instances;
