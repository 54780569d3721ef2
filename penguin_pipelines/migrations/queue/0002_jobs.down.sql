-- Takes back 0002_jobs.
drop table if exists dead_letter_jobs;
drop table if exists job_logs;
drop table if exists jobs;
drop table if exists job_queues;
