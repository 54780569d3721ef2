-- Bookmarks name the database, so that one dropped and restored in its cluster is noticed; an index for billing.
-- When: before the deploy. Locks: ACCESS EXCLUSIVE on ops.bookmarks and ops.baselines for a moment; SHARE on
-- marts.lead_analytics while the index is built: builds wait, readers do not.

alter table ops.bookmarks add column database_oid bigint;
comment on column ops.bookmarks.database_oid is 'oid of the database that was read; null for bookmarks of an older release, which take it with the next run';

alter table ops.baselines add column database_oid bigint;
comment on column ops.baselines.database_oid is 'oid of the database that is read; a read begun by an older release starts anew';

-- Each build looks for leads whose last message lies in no usage window yet.
create index lead_analytics_without_billing_id_idx on marts.lead_analytics (tenant_id) where billing_id is null;
