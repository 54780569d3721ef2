-- What every change of a job costs: jobs change three times each, and never as HOT updates, because the state is in the indexes.
-- When: before the deploy. Locks: writers of jobs wait while one index is built; the table is small by retention.

-- Jobs without a tenant are the platform's own; nobody lists them by tenant.
drop index jobs_tenant_id_created_desc_idx;
create index jobs_tenant_id_created_desc_idx on jobs (tenant_id, created desc) where tenant_id is not null;

-- Claims and ends name neither column, so the comparison of both with their old values is not made for them.
drop trigger leave_tombstone_of_old_key on jobs;
create trigger leave_tombstone_of_old_key after update of id, tenant_id on jobs
for each row when (old.id is distinct from new.id or old.tenant_id is distinct from new.tenant_id)
execute function penguin.leave_tombstone('jobs', 'id', 'tenant_id');
