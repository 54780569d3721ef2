-- Takes back 0003_workspaces.
drop table if exists warmup_schedules;
drop table if exists email_accounts;
drop table if exists domains;
drop table if exists companies;
