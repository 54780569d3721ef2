-- Takes back 0004_outreach.
drop table if exists inbox_message_refs;
drop table if exists suppression_list;
drop table if exists campaign_leads;
drop table if exists campaign_sequence_steps;
drop table if exists campaigns;
drop table if exists templates;
drop table if exists leads;
