-- Takes back 0003_health.
drop table if exists queue_alerts;
drop table if exists queue_health;
