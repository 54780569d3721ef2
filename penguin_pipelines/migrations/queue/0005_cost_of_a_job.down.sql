-- Back to the index over all jobs and the trigger for every update.
drop index jobs_tenant_id_created_desc_idx;
create index jobs_tenant_id_created_desc_idx on jobs (tenant_id, created desc);
drop trigger leave_tombstone_of_old_key on jobs;
create trigger leave_tombstone_of_old_key after update on jobs
for each row when (old.id is distinct from new.id or old.tenant_id is distinct from new.tenant_id)
execute function penguin.leave_tombstone('jobs', 'id', 'tenant_id');
