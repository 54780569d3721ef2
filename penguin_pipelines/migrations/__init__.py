"""Schema of the four tiers: numbered pairs of SQL files per tier, and the runner that applies them.

Here: `<tier>/NNNN_name.up.sql` with its `.down.sql`, `common/` for what every tier opens with, `roles.sql` for the
cluster, `<tier>/schema.txt`, the catalog after all of them. Not here: raw tables (made by ingestion from `tables/`)
and views (made by dbt).
"""
