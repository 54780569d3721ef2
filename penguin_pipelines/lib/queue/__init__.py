"""The queue tier in plain Python. Postgres is its only truth; Redis carries hints and may be erased at any moment.

Here: `watch` (what sensors and checks decide from the state of the queues). SQL is in `sql/queue.sql`, sensors in
`defs/`.
"""
