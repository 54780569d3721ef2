-- Takes back 0008_suppression. The next build makes the rows again.
drop table if exists marts.suppression;
