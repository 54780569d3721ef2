"""The queue tier in plain Python. Postgres is its only truth; Redis carries hints and may be erased at any moment.

Here: `producer` (enqueue), `worker` with `claimer`, `pool`, `child` and `store` (run), `handlers` (what runs),
`hints` (Redis), `operate` (what people do), `model` (what a job is), `builtin` and `simulated` (handlers), and
`watch` (what sensors and checks decide from the state of the queues). SQL is in `sql/queue.sql`, sensors in `defs/`.
"""
