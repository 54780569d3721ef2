"""Compares two sets of rows without moving them: each side counts and sums hashes by bucket of the key.

Equal digests mean equal keys; only the keys of unequal buckets are worth a journey. Digests are additive: those of
disjoint sets of rows add up to the digest of their union.

Not here: what follows from a difference (load for deletes, reconcile for repairs).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import psycopg
from psycopg import sql

from penguin_pipelines.lib.specs import Table
from penguin_pipelines.lib.sql import compose

ROWS_PER_BUCKET = 500
MOST = 65_536

Digest = tuple[int, int]
"""Number of rows, and sum of their hashes."""


def fitting(row_count: int) -> int:
    """Number of buckets for a table of that size: one lost row then costs a few hundred keys to find."""
    return max(1, min(MOST, row_count // ROWS_PER_BUCKET))


def key_hash(table: Table) -> sql.Composed:
    """Expression for the 64-bit hash of a row's key, the same on source and raw."""
    key = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(k)) for k in table.raw_key)
    # Parted by a control character: ('a|b', 'c') and ('a', 'b|c') must differ.
    return sql.SQL("hashtextextended(concat_ws(chr(31), {}), 0)").format(key)


def bucket(table: Table, buckets: int) -> sql.Composed:
    """Expression for the bucket of a row's key, from 0 to `buckets` - 1."""
    return sql.SQL("abs(mod({}, {}))").format(key_hash(table), sql.Literal(buckets))


def bucket_digests(
    connection: psycopg.Connection,
    table: Table,
    relation: sql.Composable,
    buckets: int,
    *,
    live: bool,
    content: sql.Composable | None = None,
) -> dict[int, Digest]:
    """Digest of each bucket that holds rows of `relation` (a name, or a subquery with an alias).

    `live` leaves rows out that are held for deleted. `content` is a bigint expression to sum instead of the hash of
    the key: with a hash of the whole row, changed rows differ too.
    """
    query = compose(
        "extract", "bucket_digests", bucket=bucket(table, buckets), hash=content or key_hash(table), table=relation,
        live=sql.SQL("_deleted is null" if live else "true"),
    )  # fmt: skip
    return {row[0]: (row[1], int(row[2])) for row in connection.execute(query)}


def total(digests: Iterable[Mapping[int, Digest]]) -> dict[int, Digest]:
    """Digests of the union of disjoint sets of rows."""
    found: dict[int, Digest] = {}
    for part in digests:
        for number, (rows, hashes) in part.items():
            have = found.get(number, (0, 0))
            found[number] = (have[0] + rows, have[1] + hashes)
    return found


def unequal(here: Mapping[int, Digest], there: Mapping[int, Digest]) -> list[int]:
    """Buckets that differ, in order."""
    return sorted(n for n in here.keys() | there.keys() if here.get(n) != there.get(n))
