-- Room on a job's page for its next versions: a job is written three times, and moving to another page costs a lock in the log each time.
-- When: before the deploy. Locks: readers and writers go on; pages that are there stay as full as they are.

alter table jobs set (fillfactor = 50);
