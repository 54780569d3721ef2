-- Takes back 0006_baselines. First reads under way start anew; what they left in raw_* may be dropped.
drop table if exists ops.baseline_ranges;
drop table if exists ops.baselines;
