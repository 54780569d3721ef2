-- Takes back 0007_reconcile. The next reconciliation compares everything again.
drop table if exists ops.reconcile_results;
drop table if exists ops.reconcile_marks;
