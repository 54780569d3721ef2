"""The queue tier in plain Python. Postgres is its only truth; Redis carries hints and may be erased at any moment.

Here: `producer` (enqueue), `worker` with `claimer`, `pool`, `child` and `store` (run), `handlers` (what runs),
`hints` (Redis), `operate` (what people do), `model` (what a job is), `builtin` and `simulated` (handlers). Watching:
`health` (one look), `watch` (rules), `alerts` (open and close), `notify` (tell people). `etl` says when an analytics
job becomes a run. SQL is in `sql/queue.sql` and `sql/watch.sql`, sensors in `defs/`.
"""
