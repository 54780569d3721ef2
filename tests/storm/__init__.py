"""The storm: many writers while extraction runs, and what it finds. Short in test_storm.py, long as a command.

`PYTHONPATH=tests python -m storm --help` is the long form (`make storm`). Here: engine (writers and comparison),
mutants (algorithms that lose rows), kills (ingestion killed and resumed). Not here: anything that the platform runs.
"""
