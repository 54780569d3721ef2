"""A dry run: which figures a changed model would move, on the real data, key by key.

Changed models and those below them are built by dbt into schemas of their own, from copies of the real tables, while
everything else is read where it is (dbt's `--defer`). The clock is that of the last build, so that time alone moves
nothing. Readers are not disturbed, nothing real is written, and the schemas are dropped afterwards; those of a dry run
that was killed are dropped by the next build. Not here: the build itself (lib/build.py).
"""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from penguin_pipelines.errors import BuildFailed, PenguinError
from penguin_pipelines.lib import build, dbt
from penguin_pipelines.lib.build import Report
from penguin_pipelines.lib.sql import blocks, compose

MOVERS = 5
_BUILD = (
    "build",
    "--exclude-resource-type",
    "test",
    "--exclude-resource-type",
    "unit_test",
    "--defer",
    "--favor-state",
)
_NOT_COMPARED = {"id", "created", "updated", "billing_id"}
"""Surrogates and times of writing, which a rebuild gives anew."""


@dataclass(frozen=True)
class ColumnDiff:
    """How a column would move; sums are null where the column is no number."""

    name: str
    rows: int
    before: Any
    after: Any
    movers: list[dict[str, Any]]


@dataclass(frozen=True)
class TableDiff:
    """How a mart would move; without a key, rows are compared as a whole and none counts as changed."""

    name: str
    rows_before: int
    rows_after: int
    added: int
    removed: int
    changed: int
    columns: list[ColumnDiff] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        return not (self.added or self.removed or self.changed)


@dataclass(frozen=True)
class Diff:
    """What a dry run found: the models whose rules changed, the marts that were compared, and how they would move."""

    changed_models: list[str]
    compared: list[str]
    new: list[str]
    gone: list[str]
    tables: list[TableDiff]
    as_of: datetime | None
    slices_waiting: int


def diff(
    url: str,
    *,
    home: Path,
    select: str | None = None,
    threads: int = 4,
    wait_seconds: float = 60,
    report: Report = lambda _: None,
) -> Diff:
    """The dry run of what changed since the last build, or of `select` in dbt's words. Holds the build lock."""
    target = build.target_folder(home, url).with_suffix(".diff")
    state = target / "state"
    state.mkdir(parents=True, exist_ok=True)
    report("reading the project")
    now = datetime.now(UTC)
    parsing = build.environment(url, now, None, threads)
    dbt.parse(state, parsing)
    manifest = json.loads((state / "manifest.json").read_text())
    with build.building(url, wait_seconds) as connection:
        if not _one(connection, "has_state"):
            raise PenguinError("Nothing has been built that a dry run could compare with; run: penguin build")
        models = dbt.model_fingerprints(manifest)
        built = dict(connection.execute(blocks("build")["built_models"]).fetchall())
        changed = (
            _selected(select, state, parsing) if select else [n for n, value in models.items() if built.get(n) != value]
        )
        names = _with_descendants(manifest, changed)
        waiting = _one(connection, "count_waiting")
        clock = _one(connection, "built_clock")
        dry = _DryRun(connection, manifest, names, f"diff_{secrets.token_hex(3)}_")
        compared, new, tables = [], [], []
        if names:
            try:
                report("copying tables")
                dry.copy()
                environment = build.environment(url, clock or now, None, threads)
                build.run_dbt(
                    [*_BUILD, "--state", str(state), "--select", *names],
                    {**environment, "PENGUIN_DBT_SCRATCH": dry.prefix},
                    target,
                    report,
                )
                for node in dry.marts():
                    report(f"comparing {node['alias']}")
                    if not dry.columns("marts", node["alias"]):
                        new.append(node["alias"])
                        continue
                    compared.append(node["alias"])
                    found = dry.compare(node)
                    tables += [] if found.is_same else [found]
            finally:
                build.drop_scratch(connection)
        gone = sorted(set(built) - set(models))
        return Diff(sorted(changed), compared, new, gone, tables, clock, waiting)


def _one(connection: psycopg.Connection, block: str) -> Any:
    row = connection.execute(blocks("build")[block]).fetchone()
    return row[0] if row else None


def _selected(select: str, state: Path, environment: Mapping[str, str]) -> list[str]:
    """Names of the models and seeds of a selection, as dbt understands it."""
    folders = ["--target-path", str(state), "--log-path", str(state)]
    arguments = ["--quiet", "ls", "--output", "name", "--resource-type", "model", "--resource-type", "seed"]
    done = subprocess.run(
        dbt.dbt_command([*arguments, "--select", *select.split(), *folders]),
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    names = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode or not names:
        raise BuildFailed(f"The selection {select!r} names no model; see the names with: penguin dagster asset list")
    return names


def _with_descendants(manifest: Mapping[str, Any], changed: Sequence[str]) -> list[str]:
    """The changed models and what is computed from them; the views of tenants only show what the marts hold."""
    nodes = {n["name"]: uid for uid, n in manifest["nodes"].items() if n["resource_type"] in ("model", "seed")}
    waiting, seen = [nodes[name] for name in changed if name in nodes], set()
    while waiting:
        uid = waiting.pop()
        if uid in seen or not uid.startswith(("model.", "seed.")):
            continue
        seen.add(uid)
        waiting += manifest["child_map"].get(uid, [])
    found = [manifest["nodes"][uid] for uid in seen]
    return sorted(n["name"] for n in found if _layer(n) != "tenant")


def _layer(node: Mapping[str, Any]) -> str:
    return node["fqn"][1] if node["resource_type"] == "model" else "seed"


class _DryRun:
    """The scratch schemas of one dry run and what stands in them."""

    def __init__(
        self, connection: psycopg.Connection, manifest: Mapping[str, Any], names: Sequence[str], prefix: str
    ) -> None:
        self.connection, self.manifest, self.prefix = connection, manifest, prefix
        wanted = set(names)
        self.nodes = [n for n in manifest["nodes"].values() if n["name"] in wanted and n["resource_type"] == "model"]

    def marts(self) -> Iterator[Mapping[str, Any]]:
        """The models whose figures people read."""
        return (node for node in sorted(self.nodes, key=lambda n: n["name"]) if _layer(node) == "marts")

    def copy(self) -> None:
        """Copies the tables that dbt goes on filling, so that what is frozen or only grows is there."""
        for node in self.nodes:
            schema, name = node["schema"], node["alias"]
            columns = [n for n, is_written, _, _ in self._columns(schema, name) if is_written]
            if node["config"]["materialized"] != "incremental" or not columns:
                continue
            copy, table = self._scratch(schema, name), sql.Identifier(schema, name)
            self.connection.execute(compose("build", "make_scratch", schema=sql.Identifier(self.prefix + schema)))
            self.connection.execute(compose("build", "copy_table", copy=copy, table=table))
            listed = sql.SQL(", ").join(map(sql.Identifier, columns))
            self.connection.execute(compose("build", "copy_rows", copy=copy, table=table, columns=listed))

    def columns(self, schema: str, name: str) -> list[tuple[str, bool]]:
        """Names of the columns that are compared, and whether they are numbers."""
        return [
            (n, is_number)
            for n, _, is_number, is_identity in self._columns(schema, name)
            if n not in _NOT_COMPARED and not is_identity
        ]

    def compare(self, node: Mapping[str, Any]) -> TableDiff:
        """Both versions of one mart."""
        schema, name = node["schema"], node["alias"]
        old, new = sql.Identifier(schema, name), self._scratch(schema, name)
        there = dict(self.columns(self.prefix + schema, name))
        columns = {n: is_number for n, is_number in self.columns(schema, name) if n in there}
        keys = [key for key in self._keys(node) if key in columns]
        if not keys:
            listed = sql.SQL(", ").join(map(sql.Identifier, columns))
            row = self._row(compose("build", "compare_rows", old=old, new=new, columns=listed))
            return TableDiff(name, row[0], row[1], row[2], row[3], 0)
        same = sql.SQL(" and ").join(
            sql.SQL("coalesce(o.{0}::text, '') = coalesce(n.{0}::text, '')").format(sql.Identifier(k)) for k in keys
        )
        values = [n for n in columns if n not in keys]
        differs = [sql.SQL("o.{0} is distinct from n.{0}").format(sql.Identifier(n)) for n in values]
        figures = [self._figures(n, columns[n]) for n in values]
        query = compose(
            "build",
            "compare",
            old=old,
            new=new,
            same=same,
            changed=sql.SQL(" or ").join(differs) if differs else sql.SQL("false"),
            figures=sql.SQL("").join(figures),
        )
        row = self._row(query)
        before, after, added, removed, changed = row[:5]
        moved = []
        for at, column in enumerate(values):
            rows, low, high = row[5 + 3 * at : 8 + 3 * at]
            if rows or low != high:
                movers = self._movers(old, new, same, keys, column, columns[column])
                moved.append(ColumnDiff(column, rows, low, high, movers))
        return TableDiff(name, before, after, added, removed, changed, moved)

    def _figures(self, column: str, is_number: bool) -> sql.Composed:
        name = sql.Identifier(column)
        total = sql.SQL("sum({}.{})") if is_number else sql.SQL("null")
        sums = [total.format(sql.Identifier(side), name) if is_number else total for side in ("o", "n")]
        return compose("build", "compare_column", column=name, before=sums[0], after=sums[1])

    def _movers(
        self,
        old: sql.Composable,
        new: sql.Composable,
        same: sql.Composable,
        keys: Sequence[str],
        column: str,
        is_number: bool,
    ) -> list[dict[str, Any]]:
        shown = [sql.SQL("coalesce(o.{0}, n.{0})").format(sql.Identifier(k)) for k in keys]
        name = sql.Identifier(column)
        distance = sql.SQL("abs(coalesce(n.{0}, 0) - coalesce(o.{0}, 0))").format(name) if is_number else sql.SQL("1")
        query = compose(
            "build",
            "movers",
            old=old,
            new=new,
            same=same,
            keys=sql.SQL(", ").join(shown),
            column=name,
            distance=distance if is_number else shown[0],
        )
        found = self.connection.execute(query, {"limit": MOVERS}).fetchall()
        return [
            {"key": dict(zip(keys, map(str, row[:-2]), strict=True)), "before": row[-2], "after": row[-1]}
            for row in found
        ]

    def _keys(self, node: Mapping[str, Any]) -> Sequence[str]:
        """The key of a model: what it is kept by, a unique index, or what a test holds unique."""
        config = node["config"]
        if config.get("unique_key"):
            return config["unique_key"]
        for index in config.get("indexes") or []:
            if index.get("unique"):
                return index["columns"]
        for test in self.manifest["nodes"].values():
            if test.get("attached_node") == node["unique_id"]:
                about = test.get("test_metadata") or {}
                if about.get("name") == "unique_together":
                    return about["kwargs"]["columns"]
        return []

    def _columns(self, schema: str, name: str) -> list[tuple[str, bool, bool, bool]]:
        relation = f'"{schema}"."{name}"'
        return self.connection.execute(blocks("build")["columns"], {"relation": relation}).fetchall()

    def _scratch(self, schema: str, name: str) -> sql.Identifier:
        return sql.Identifier(self.prefix + schema, name)

    def _row(self, query: sql.Composed) -> tuple[Any, ...]:
        row = self.connection.execute(query).fetchone()
        assert row is not None
        return row
