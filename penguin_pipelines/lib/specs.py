"""Reads the stanzas of `tables/*.yml` into frozen, checked objects. Everything about a source table derives from them.

Fields of a stanza:

- `mode`: `xid8` (default) reads an exact window on the column change_xid; `xmin` reads by the row's own xmin, for
  tables that must not be altered.
- `key`: what identifies a row in the source. The raw key is the tenant, then this, so that raw tables can be spread
  by tenant.
- `tenant`: column that holds the tenant; left out where the table has none or may hold none.
- `slice`: what a change touches: `message` (the row is one), `event` (the message it belongs to by storage_key),
  `entity COLUMN` (the thing with that id), `hour COLUMN` (the UTC hour of that time), `tenant` (the tenant as a whole)
  or `none`.
- `floor`: how long the source keeps rows, by `floor_column` (default created). Older raw rows are not missed there.
- `indexes`: further indexes of the raw table.
- `columns`, by class: `plain` as it is; `pseudonym` as a keyed hash (compared without case); `never` stays in the
  source; `domains` lists pseudonym columns whose e-mail domain is kept beside the hash as `<column>_domain`.

A column of the source that no stanza lists is reported and not read. Not here: reading (extract), writing (load).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from penguin_pipelines.errors import PenguinError, UnknownName

FOLDER = Path(__file__).parent.parent / "tables"
SOURCES = ("oltp", "content", "queue")
Mode = Literal["xid8", "xmin"]

_LONG_TYPES = {
    "varchar": "character varying",
    "char": "character",
    "timestamptz": "timestamp with time zone",
}


@dataclass(frozen=True)
class Column:
    """A column of a raw table."""

    name: str
    type: str
    origin: str
    how: Literal["plain", "pseudonym", "domain"]


class _Columns(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    plain: Mapping[str, str] = {}
    pseudonym: Mapping[str, str] = {}
    never: Mapping[str, str] = {}
    domains: tuple[str, ...] = ()


class Table(BaseModel):
    """One stanza."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    source: str
    name: str
    description: str
    mode: Mode = "xid8"
    key: Annotated[tuple[str, ...], Field(min_length=1)]
    tenant: str | None = None
    slice: Annotated[str, Field(pattern=r"^(message|event|tenant|none|(entity|hour) \w+)$")]
    floor: str | None = None
    floor_column: str = "created"
    indexes: tuple[tuple[str, ...], ...] = ()
    columns: _Columns

    @model_validator(mode="after")
    def _consistent(self) -> Table:
        readable = {*self.columns.plain, *self.columns.pseudonym}
        wanted = {
            "key": self.key,
            "tenant": (self.tenant,) if self.tenant else (),
            "domains": self.columns.domains,
            "slice": tuple(self.slice.split()[1:]),
            "floor_column": (self.floor_column,) if self.floor else (),
            "indexes": tuple(c for index in self.indexes for c in index),
        }
        for field, names in wanted.items():
            for name in names:
                if name not in readable:
                    raise ValueError(f"{field} names {name!r}, which is not one of its plain or pseudonym columns")
        return self

    @property
    def full_name(self) -> str:
        """`source.table`, as people write it and as slices name their cause."""
        return f"{self.source}.{self.name}"

    @property
    def raw_schema(self) -> str:
        """Schema of the raw table in the warehouse."""
        return f"raw_{self.source}"

    @property
    def raw_key(self) -> tuple[str, ...]:
        """Key of the raw table, tenant first."""
        return (self.tenant, *(c for c in self.key if c != self.tenant)) if self.tenant else self.key

    @property
    def entity(self) -> str | None:
        """Column whose value is the entity that a change touches."""
        return self.slice.split()[1] if self.slice.startswith("entity") else None

    @property
    def hour(self) -> str | None:
        """Column with the time whose hour a change touches."""
        return self.slice.split()[1] if self.slice.startswith("hour") else None

    @property
    def raw_columns(self) -> tuple[Column, ...]:
        """Columns of the raw table that come from the source, in order."""
        plain = (Column(n, t, n, "plain") for n, t in self.columns.plain.items())
        hashed = (Column(n, "text", n, "pseudonym") for n in self.columns.pseudonym)
        domains = (Column(f"{n}_domain", "text", n, "domain") for n in self.columns.domains)
        return (*plain, *hashed, *domains)

    @property
    def source_types(self) -> dict[str, str]:
        """Type, in the words of the catalog, of each source column that is read."""
        return {n: long_type(t) for n, t in {**self.columns.plain, **self.columns.pseudonym}.items()}


def long_type(short: str) -> str:
    """A type as `format_type` writes it: `varchar(10)` is `character varying(10)`."""
    return re.sub(r"^\w+", lambda m: _LONG_TYPES.get(m.group(), m.group()), short)


@cache
def tables(source: str) -> tuple[Table, ...]:
    """The stanzas of a source in file order, which is the order of loading."""
    if source not in SOURCES:
        raise UnknownName.of("source", source, SOURCES)
    path = FOLDER / f"{source}.yml"
    raw = yaml.safe_load(path.read_text())
    found: list[Table] = []
    for stanza in raw["tables"]:
        try:
            found.append(Table(source=source, **stanza))
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise PenguinError(
                f"Table {stanza.get('name')!r} in tables/{source}.yml is not usable: {where} {first['msg']}."
            ) from None
    return tuple(found)


def all_tables() -> tuple[Table, ...]:
    """Every stanza of every source."""
    return tuple(table for source in SOURCES for table in tables(source))


def find(name: str) -> Table:
    """The stanza for `source.table`, or for a bare table name that only one source has."""
    matches = [t for t in all_tables() if name in (t.full_name, t.name)]
    if len(matches) == 1:
        return matches[0]
    if len(matches) > 1:
        raise UnknownName(f"Table {name!r} is in {', '.join(t.source for t in matches)}; write {matches[0].full_name}.")
    raise UnknownName.of("table", name, [t.full_name for t in all_tables()])
