-- Takes back 0004_facts.
drop table if exists marts.campaign_engagement_hourly;
drop table if exists marts.infrastructure_analytics;
drop table if exists marts.warmup_analytics;
drop table if exists marts.lead_analytics;
drop table if exists marts.mailbox_analytics;
drop table if exists marts.campaign_analytics;
drop table if exists marts.sequence_step_analytics;
drop table if exists marts.billing_analytics;
