-- Takes the order of claiming away; the tables stay.
drop index jobs_aged_idx, jobs_claim_idx;
drop function penguin.job_rank(integer, timestamptz), penguin.job_lane(integer);
