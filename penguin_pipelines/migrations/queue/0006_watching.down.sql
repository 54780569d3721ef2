-- Takes back 0006_watching. Alerts of the whole tier go: the older table has no place for them.
drop view queue_health_dashboard;
drop table penguin.alert_notifications;
delete from queue_alerts where queue_name is null;
drop index queue_alerts_queue_name_rule_level_key;
create unique index queue_alerts_queue_name_rule_level_key on queue_alerts (queue_name, rule, level) where closed is null;
comment on column queue_alerts.queue_name is null;
alter table queue_alerts alter column queue_name set not null;
create index queue_health_queue_name_sampled_desc_idx on queue_health (queue_name, sampled desc);
drop index queue_health_queue_name_sampled_key;
