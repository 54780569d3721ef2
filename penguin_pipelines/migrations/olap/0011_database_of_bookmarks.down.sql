-- Takes back 0011_database_of_bookmarks. A database dropped and restored in its cluster is not noticed any more.
drop index if exists marts.lead_analytics_without_billing_id_idx;
alter table if exists ops.baselines drop column if exists database_oid;
alter table if exists ops.bookmarks drop column if exists database_oid;
