"""Side-by-side comparisons with peers in one run, as ratios. By hand or by schedule, never a timed test.

`make bench` installs the peers (benchmarks/requirements.lock) into an environment of their own and runs everything.
"""
