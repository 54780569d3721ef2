"""Loads named SQL blocks from `penguin_pipelines/sql/<concern>.sql`.

A block starts with `-- name: <name>` and one comment line of purpose. Values are passed as parameters, identifiers are
composed by psycopg. Not here: SQL of the marts (dbt_project) and of the schema (migrations).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import LiteralString, cast

from psycopg import sql

FOLDER = Path(__file__).parent.parent / "sql"


@cache
def blocks(concern: str) -> dict[str, LiteralString]:
    """All blocks of one concern by name."""
    return parse((FOLDER / f"{concern}.sql").read_text())


def parse(text: str) -> dict[str, LiteralString]:
    """The named blocks of a text."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("-- name: "):
            name = line.removeprefix("-- name: ").strip()
            found[name] = []
        elif name:
            found[name].append(line)
    return {name: cast("LiteralString", "\n".join(lines).strip().rstrip(";")) for name, lines in found.items()}


def compose(concern: str, name: str, **identifiers: sql.Composable) -> sql.Composed:
    """A block with its `{placeholders}` filled by composed identifiers or fragments."""
    return sql.SQL(blocks(concern)[name]).format(**identifiers)
