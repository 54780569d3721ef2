"""Removes tombstones that nobody needs any more: those below the bookmark of their table.

Done as pm_owner, the only role that may write there: what serves and loads cannot make a deletion unseen.
Not here: how tombstones come to be (migrations), how they are read (extract).
"""

from __future__ import annotations

from datetime import timedelta

import psycopg

from penguin_pipelines.lib.sql import blocks

KEPT = timedelta(days=7)
"""Tombstones stay at least this long, for a warehouse that is restored with an older bookmark. From a backup older than
that it is to be read anew with `penguin ingest --full`."""


def prune(source: psycopg.Connection, warehouse: psycopg.Connection, name: str) -> int:
    """Deletes what the bookmark of each table has passed; returns how many. Caller commits.

    `source` acts as pm_owner. Bookmarks of another cluster say nothing about this one: then nothing is deleted.
    """
    needed = warehouse.execute(blocks("maintenance")["needed_from"], {"source": name}).fetchone()
    if needed is None or needed[0] is None:
        return 0
    tables, horizons, systems = needed
    parameters = {"tables": tables, "horizons": horizons, "systems": systems, "kept": KEPT}
    return source.execute(blocks("maintenance")["prune_tombstones"], parameters).rowcount
