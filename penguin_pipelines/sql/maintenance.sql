-- name: extend_partitions
-- Makes the partitions ahead for every table with a rule; returns how many were made.
select penguin.extend_partitions()
