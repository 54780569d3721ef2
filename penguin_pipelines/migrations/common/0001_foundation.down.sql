-- Takes back the foundation. The schema itself stays: it holds the version table of the migrations.
drop function if exists
  penguin.create_hash_partitions, penguin.extend_partitions, penguin.create_range_partitions, penguin.cut_by_time,
  penguin.protect, penguin.grant_roles, penguin.track, penguin.key_columns, penguin.short_name,
  penguin.leave_tombstone, penguin.mark_changed, penguin.current_person, penguin.current_tenant, penguin.tier;
drop table if exists penguin.tombstones, penguin.partition_rules;
