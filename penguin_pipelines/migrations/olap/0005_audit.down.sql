-- Takes back 0005_audit. The entries cannot be recomputed: back them up first.
drop function if exists marts.record_admin_action;
drop table if exists marts.admin_audit_log;
drop function if exists penguin.refuse_change;
