-- Order in which jobs are claimed: lanes, tenants in turn within a lane, priority that ages within a tenant.
-- When: before the deploy. Locks: writers of jobs wait while the indexes are built; the table is small by retention.

-- Lane of a priority: 1 high, 2 normal, 3 low.
create function penguin.job_lane(priority integer) returns integer language sql immutable parallel safe
return case when priority <= 50 then 1 when priority <= 150 then 2 else 3 end;

-- Order within a lane. Ten minutes of waiting count as much as one step of priority, so of two jobs the one that is ahead
-- now stays ahead: aging needs no rewriting of rows, and an index can hold the order.
create function penguin.job_rank(priority integer, run timestamptz) returns double precision language sql immutable parallel safe
return priority + date_part('epoch', run at time zone 'UTC') / 600;

create index jobs_claim_idx on jobs (queue_name, penguin.job_lane(priority), coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'), penguin.job_rank(priority, run), run) where status = 'queued';
create index jobs_aged_idx on jobs (queue_name, run, priority) where status = 'queued' and priority > 150;
