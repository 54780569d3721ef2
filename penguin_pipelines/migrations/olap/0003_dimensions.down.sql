-- Takes back 0003_dimensions.
drop table if exists marts.dim_mailboxes;
drop table if exists marts.dim_sequence_steps;
drop table if exists marts.dim_campaigns;
drop table if exists marts.dim_companies;
drop table if exists marts.dim_tenants;
