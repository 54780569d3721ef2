"""Which columns each column of a model is made of, read from the text of the models: no database, no run.

Models are rendered by a small Jinja of their own that stands for dbt's: every one as a build of everything would run
it. sqlglot then follows each column of the final select down to columns of other relations, in the order of the graph,
so that a star is known by what stands above it. Conditions, joins and orders make no lineage; what a figure is made of
does. Not here: assets (defs/warehouse.py), when this is made (lib/dbt.py, together with the manifest).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

Column = tuple[str, str]
"""Unique id of a node of dbt and the name of a column in it."""
_Found = set[tuple[tuple[str, str], str]]
"""Columns by schema and name of their relation."""
Lineage = dict[str, dict[str, list[Column]]]
"""Columns behind each column, by unique id of the model."""


def lineage(manifest: Mapping[str, Any], project: Path, variables: Mapping[str, Any]) -> tuple[Lineage, dict[str, str]]:
    """The lineage of all models of a manifest, and why it is not known for those that cannot be read."""
    from sqlglot import MappingSchema
    from sqlglot.errors import SqlglotError

    relations = {(n["schema"], n.get("alias") or n["name"]): n for n in _relations(manifest)}
    ids = {name: node["unique_id"] for name, node in relations.items()}
    render = _renderer(manifest, variables)
    schema = MappingSchema(dialect="postgres")
    for (place, name), node in relations.items():
        if node["resource_type"] != "model":
            _add(schema, place, name, _declared(node, project))
    found: Lineage = {}
    failed: dict[str, str] = {}
    for node in _in_order(manifest):
        place, name = node["schema"], node["alias"]
        try:
            columns = _columns(render(node), schema)
        except (SqlglotError, RecursionError) as error:
            failed[node["unique_id"]] = " ".join(str(error).split())[:200]
            _add(schema, place, name, _declared(node, project))
            continue
        # A table of the migrations has columns that its query does not make: surrogates, times of writing.
        _add(schema, place, name, [*columns, *_declared(node, project)])
        found[node["unique_id"]] = {
            column: sorted(
                # A table that reads what it said before is not made of itself.
                {(ids[t], c) for t, c in behind if t in ids and ids[t] != node["unique_id"]}
            )
            for column, behind in columns.items()
        }
    return found, failed


def origins(known: Lineage) -> Callable[[str, str], frozenset[Column]]:
    """What gives the columns that a column is made of in the end: those of sources and seeds."""

    @cache
    def behind(unique_id: str, column: str) -> frozenset[Column]:
        above = known.get(unique_id, {}).get(column, [])
        made = (behind(*c) if c[0] in known else frozenset([(c[0], c[1])]) for c in above)
        return frozenset().union(*made)

    return behind


def _relations(manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for node in manifest["nodes"].values():
        if node["resource_type"] in ("model", "seed"):
            yield node
    yield from manifest["sources"].values()


def _declared(node: Mapping[str, Any], project: Path) -> list[str]:
    """Columns of a relation that no query of ours makes."""
    if node["resource_type"] != "seed":
        return list(node["columns"])
    with (project / node["original_file_path"]).open() as lines:
        return next(csv.reader(lines))


def _add(schema: Any, place: str, name: str, columns: list[str]) -> None:
    if columns:
        schema.add_table(f'"{place}"."{name}"', dict.fromkeys(columns, "text"))


def _in_order(manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Models, each after those that it reads."""
    nodes, done = manifest["nodes"], set()

    def visit(unique_id: str) -> Iterator[dict[str, Any]]:
        node = nodes.get(unique_id)
        if unique_id in done or not node or node["resource_type"] != "model":
            return
        done.add(unique_id)
        for parent in node["depends_on"]["nodes"]:
            yield from visit(parent)
        yield node

    for unique_id in sorted(nodes):
        yield from visit(unique_id)


class _Returned(Exception):
    """Carries the value of dbt's `return` out of a macro."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Nothing:
    """Answers for whatever asks the database: there is nothing yet."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class _Relation(str):
    """A relation as its quoted name, with the parts that macros ask for."""

    schema: str
    identifier: str

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> _Relation:
        alias = node.get("alias") or node["name"]
        relation = cls(f'"{node["schema"]}"."{alias}"')
        relation.schema, relation.identifier = node["schema"], alias
        return relation


def _renderer(manifest: Mapping[str, Any], variables: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], str]:
    """What renders the text of a model as a build of everything would."""
    import jinja2
    import jinja2.ext

    environment = jinja2.Environment(extensions=["jinja2.ext.do"])
    by_name = {n["name"]: _Relation.of(n) for n in _relations(manifest) if n["resource_type"] != "source"}
    sources = {(n["source_name"], n["name"]): _Relation.of(n) for n in manifest["sources"].values()}

    def give(value: Any = None) -> None:
        raise _Returned(value)

    names: dict[str, Any] = {
        "ref": lambda *path: by_name[path[-1]],
        "source": lambda *path: sources[path],
        "config": _Nothing(),
        "var": lambda name, default=None: variables.get(name, default),
        "env_var": lambda name, default="": default,
        "adapter": _Nothing(),
        "run_query": lambda *_: None,
        "return": give,
        "execute": True,
        "is_incremental": lambda: False,
        "graph": {"nodes": manifest["nodes"], "sources": manifest["sources"]},
        "run_started_at": datetime.now(UTC),
        "target": {"schema": "marts", "database": "warehouse"},
    }
    environment.globals.update(names)
    for macro in manifest["macros"].values():
        if macro["package_name"] == "penguin" and not macro["macro_sql"].lstrip().startswith("{% materialization"):
            environment.globals.setdefault(macro["name"], _macro(environment, macro))
    environment.globals["is_full_build"] = lambda *_: True

    def render(node: Mapping[str, Any]) -> str:
        own = {"this": _Relation.of(node), "model": node, "config": _Config()}
        environment.globals.update(own)
        return environment.from_string(node["raw_code"]).render()

    return render


class _Config(_Nothing):
    """A model's configuration is in the manifest already: setting it writes nothing."""

    def __call__(self, **_: Any) -> str:
        return ""


def _macro(environment: Any, macro: Mapping[str, Any]) -> Callable[..., Any]:
    made: list[Any] = []

    def call(*args: Any, **more: Any) -> Any:
        if not made:
            made.append(environment.from_string(macro["macro_sql"]))
        try:
            return getattr(made[0].make_module(), macro["name"])(*args, **more)
        except _Returned as returned:
            return returned.value

    return call


def _columns(text: str, schema: Any) -> dict[str, _Found]:
    """Columns of a query in their order, with the columns of relations that each is made of."""
    from sqlglot import exp, parse_one
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import traverse_scope

    query = qualify(
        parse_one(text, dialect="postgres"),
        schema=schema,
        dialect="postgres",
        validate_qualify_columns=False,
        identify=False,
        quote_identifiers=False,
    )
    scopes = traverse_scope(query)
    home = {id(column): scope for scope in scopes for column in scope.columns}
    # A correlated column stands in the scopes of both queries; the inner one is listed first and knows the outer.
    known: dict[tuple[int, str], _Found] = {}

    def of_expression(part: Any, scope: Any) -> _Found:
        return set().union(*(of_column(column, home.get(id(column), scope)) for column in part.find_all(exp.Column)))

    def of_column(column: Any, scope: Any) -> _Found:
        while scope is not None:
            source = scope.sources.get(column.table)
            if isinstance(source, exp.Table):
                return {((source.db, source.name), column.name)}
            if source is not None:
                return of_output(source, column.name)
            scope = scope.parent
        return set()

    def of_output(scope: Any, name: str) -> _Found:
        key = id(scope), name
        if key not in known:
            known[key] = set()  # ends a query that reads itself
            known[key] = _of_output(scope, name)
        return known[key]

    def _of_output(scope: Any, name: str) -> _Found:
        made = scope.expression
        if isinstance(made, exp.SetOperation):
            place = made.named_selects.index(name) if name in made.named_selects else None
            if place is None:
                return set()
            sides: Any = scope.set_operation_scopes
            return set().union(*(of_output(s, s.expression.named_selects[place]) for s in sides))
        if isinstance(made, exp.Select):
            return set().union(*(of_expression(s, scope) for s in made.selects if s.alias_or_name == name))
        return of_expression(made, scope)

    root: Any = scopes[-1]
    return {name: of_output(root, name) for name in root.expression.named_selects}
