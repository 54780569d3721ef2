"""Side-by-side comparisons with peers in one run, as ratios. By hand or by schedule, never a timed test.

Peers are not dependencies of the project: one that is not installed is left out with a line that names it.
"""
