-- Takes back 0009_monthly_rollups.
drop table if exists marts.infrastructure_analytics_monthly;
drop table if exists marts.mailbox_analytics_monthly;
drop table if exists marts.sequence_step_analytics_monthly;
drop table if exists marts.campaign_analytics_monthly;
