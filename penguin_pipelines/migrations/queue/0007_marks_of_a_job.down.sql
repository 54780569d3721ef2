-- Back to the trigger for every update; the mark is written by it alone.
revoke update (change_xid) on jobs from pm_worker;
drop trigger mark_changed on jobs;
create trigger mark_changed before update on jobs for each row execute function penguin.mark_changed('t');
comment on column jobs.change_xid is 'transaction that last wrote the row; the exact watermark of extraction, written by default and trigger only';
