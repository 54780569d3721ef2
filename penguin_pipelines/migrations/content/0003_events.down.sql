-- Takes back 0003_events.
drop table if exists warmup_interactions;
drop table if exists email_complaints;
drop table if exists email_unsubscribes;
drop table if exists email_replies;
drop table if exists email_bounces;
drop table if exists email_clicks;
drop table if exists email_opens;
