-- Back to the trigger for every update; the mark is written by it alone.
revoke update (change_xid) on jobs from pm_worker;
drop trigger mark_changed on jobs;
create trigger mark_changed before update on jobs for each row execute function penguin.mark_changed('t');
