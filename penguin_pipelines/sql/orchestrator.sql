-- name: runs_of_host
-- Whether a run that a command on this machine executes itself is called in progress.
select exists (
  select from run_tags as t
  inner join runs as r on t.run_id = r.run_id
  where t.key = %(key)s and t.value = %(host)s and r.status in ('STARTING', 'STARTED', 'CANCELING')
);
