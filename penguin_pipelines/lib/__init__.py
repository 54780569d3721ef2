"""Pure Python: services, extraction, loading, queue, retention, backup.

Nothing in this package imports Dagster, reads the environment, or prints; that is the work of `defs/`,
`settings.py` and `cli.py`.
"""
