"""The live schema against the facts of the design, table by table; deliberate differences stand in facts/overrides.yml.

Postgres itself puts both sides into words: what a fact asks for is made on an empty copy of the table and read back.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from servers import Databases

from penguin_pipelines.lib import db
from penguin_pipelines.lib.specs import long_type
from penguin_pipelines.settings import TIERS

pytestmark = pytest.mark.every_postgres

FACTS = Path(__file__).parent.parent / "facts"
LISTS = ("columns", "unique_keys", "indexes", "foreign_keys")
POLICIES = {
    "tenant_isolation": {"tenant_isolation"},
    "tenant_self": {"tenant_self"},
    "self_or_tenant_member": {"self_or_tenant_member"},
    "tenant_and_owner": {"tenant_and_owner"},
    "tenant_or_global": {"tenant_or_global", "tenant_insert", "tenant_update", "tenant_delete"},
    "tenant_or_global_staff_write": {"tenant_or_global", "worker_write"},
    "tenant_or_staff": {"tenant_or_staff"},
    "public_read_staff_write": {"public_read"},
    "staff_read_insert_any": {"insert_any", "staff_read"},
    "staff_only": set(),
}
ON_DELETE = {"a": "no action", "r": "restrict", "c": "cascade", "n": "set null"}

Facts = dict[str, Any]


@cache
def overrides() -> list[Facts]:
    return yaml.safe_load((FACTS / "overrides.yml").read_text())["overrides"]


@cache
def tables(tier: str) -> dict[str, Facts]:
    """Facts of a tier with the overrides applied. An override that meets nothing is itself a fault."""
    found = {t["name"]: t for t in yaml.safe_load((FACTS / f"{tier}.yml").read_text())["tables"]}
    found = copy.deepcopy(found)
    for override in (o for o in overrides() if o["tier"] == tier):
        assert override["reason"].strip(), f"The override of {override['table']} gives no reason."
        if "new_table" in override:
            assert override["table"] not in found, f"{override['table']} is no new table."
            found[override["table"]] = {"name": override["table"], **override["new_table"]}
            continue
        named = found if override["table"] == "every" else {override["table"]: found[override["table"]]}
        for name, table in named.items():
            if name not in override.get("but_not", []) and table.get("kind") != "view":
                _apply(override, table)
    return found


def _apply(override: Facts, table: Facts) -> None:
    table |= override.get("set", {})
    for section in LISTS:
        items = table.setdefault(section, [])
        for gone in override.get("remove", {}).get(section, []):
            matches = [i for i in items if i.get("name", i.get("columns")) == gone]
            assert matches, f"The override of {table['name']} removes {gone} from {section}, which is not there."
            items.remove(matches[0])
        items.extend(copy.deepcopy(override.get("add", {}).get(section, [])))


CASES = [(tier, name) for tier in TIERS for name in tables(tier)]


@pytest.fixture
def connection(migrated: Databases, tier: str) -> Iterator[psycopg.Connection]:
    with db.connect(migrated[tier], tier) as connection:
        connection.execute("set local search_path = public, marts, pg_temp")
        yield connection
        connection.rollback()


def schema_of(tier: str) -> str:
    return "marts" if tier == "olap" else "public"


@pytest.mark.parametrize(("tier", "name"), CASES)
def test_a_table_is_what_the_design_says(connection: psycopg.Connection, tier: str, name: str) -> None:
    table = tables(tier)[name]
    relation = f"{schema_of(tier)}.{name}"
    assert _scalar(connection, "select to_regclass(%s)", relation), f"{relation} does not exist."
    wanted, live = Wanted(connection, relation, table), Live(connection, relation)
    assert live.columns() == wanted.columns()
    if table.get("kind") == "view":
        assert live.is_invokers_view(), f"{relation} must be a view with security_invoker."
        return
    assert live.primary_key() == table["primary_key"]
    assert live.allowed() == wanted.allowed()
    assert live.indexes() == wanted.indexes()
    assert live.foreign_keys() == wanted.foreign_keys()
    assert live.partitioning() == table.get("partitioning")
    assert live.policies() == POLICIES[table["rls"]]


@pytest.mark.parametrize("tier", TIERS)
def test_every_table_of_a_tier_is_a_fact_of_the_design(connection: psycopg.Connection, tier: str) -> None:
    found = connection.execute(
        "select relname from pg_class where relnamespace = %s::regnamespace and relkind in ('r', 'p', 'v') "
        "and not relispartition and pg_get_userbyid(relowner) = 'pm_owner'",
        [schema_of(tier)],
    )
    assert {row[0] for row in found} == set(tables(tier)), (
        "Add a new_table to tests/facts/overrides.yml, with its reason."
    )


def test_every_table_that_the_design_names_exists() -> None:
    """29 names: the design document's own list."""
    named = [t["name"] for tier in TIERS for t in tables(tier).values() if t.get("named_in_design")]
    assert len(named) == 29


class Wanted:
    """What the facts ask for, in the words of the catalog."""

    def __init__(self, connection: psycopg.Connection, relation: str, table: Facts) -> None:
        self.connection, self.relation, self.table = connection, relation, table

    def columns(self) -> dict[str, tuple[str, bool, bool]]:
        # A view keeps no NOT NULL.
        view = self.table.get("kind") == "view"
        return {
            c["name"]: (long_type(c["type"]), c.get("not_null", False) and not view, c.get("identity", False))
            for c in self.table["columns"]
        }

    def allowed(self) -> dict[str, set[str]]:
        return {c["name"]: set(c["allowed"]) for c in self.table["columns"] if "allowed" in c}

    def indexes(self) -> list[str]:
        """Makes them on an empty copy, which goes with the transaction."""
        self.connection.execute(f"create temp table probe (like {self.relation}) on commit drop")
        for unique, section in (("unique ", "unique_keys"), ("", "indexes")):
            for index in self.table.get(section, []):
                include = f" include ({', '.join(index['include'])})" if "include" in index else ""
                nulls = " nulls not distinct" if index.get("nulls_not_distinct") else ""
                where = f" where {index['where']}" if "where" in index else ""
                self.connection.execute(
                    f"create {unique}index on probe using {index.get('method', 'btree')} "  # type: ignore[arg-type]
                    f"({', '.join(index['columns'])}){include}{nulls}{where}"
                )
        return Live(self.connection, "pg_temp.probe").indexes()

    def foreign_keys(self) -> set[tuple[Any, ...]]:
        return {
            (tuple(k["columns"]), k["table"], tuple(k["target"]), k["on_delete"])
            for k in self.table.get("foreign_keys", [])
        }


class Live:
    """What the catalog says."""

    def __init__(self, connection: psycopg.Connection, relation: str) -> None:
        self.connection, self.relation = connection, relation

    def _rows(self, query: str) -> list[Any]:
        return self.connection.execute(query, {"relation": self.relation}).fetchall()  # type: ignore[arg-type]

    def columns(self) -> dict[str, tuple[str, bool, bool]]:
        rows = self._rows(
            "select attname, format_type(atttypid, atttypmod), attnotnull, attidentity <> '' from pg_attribute "
            "where attrelid = %(relation)s::regclass and attnum > 0 and not attisdropped"
        )
        return {name: (kind, not_null, identity) for name, kind, not_null, identity in rows}

    def primary_key(self) -> list[str]:
        rows = self._rows(
            "select array(select attname::text from unnest(conkey) with ordinality as k(n, at) "
            "join pg_attribute on attrelid = conrelid and attnum = n order by at) "
            "from pg_constraint where conrelid = %(relation)s::regclass and contype = 'p'"
        )
        return rows[0][0]

    def allowed(self) -> dict[str, set[str]]:
        rows = self._rows(
            "select attname, pg_get_constraintdef(c.oid) from pg_constraint as c "
            "join pg_attribute on attrelid = conrelid and attnum = conkey[1] "
            "where conrelid = %(relation)s::regclass and contype = 'c' and conname like '%%\\_allowed'"
        )
        return {name: set(re.findall(r"'([^']*)'::", text)) for name, text in rows}

    def indexes(self) -> list[str]:
        """Sorted, without the names of index and table; the primary key is a question of its own."""
        rows = self._rows(
            "select pg_get_indexdef(indexrelid) from pg_index "
            "where indrelid = %(relation)s::regclass and not indisprimary"
        )
        return sorted(re.sub(r"INDEX \S+ ON (ONLY )?\S+ ", "", row[0]) for row in rows)

    def foreign_keys(self) -> set[tuple[Any, ...]]:
        rows = self._rows(
            "select array(select attname::text from unnest(conkey) with ordinality as k(n, at) "
            "  join pg_attribute on attrelid = conrelid and attnum = n order by at),"
            " (select relname from pg_class where oid = confrelid), "
            "array(select attname::text from unnest(confkey) with ordinality as k(n, at) "
            "  join pg_attribute on attrelid = confrelid and attnum = n order by at), "
            "confdeltype::text, "
            "(select attname from pg_attribute where attrelid = conrelid and attnum = confdelsetcols[1]) "
            "from pg_constraint where conrelid = %(relation)s::regclass and contype = 'f' and conparentid = 0"
        )
        return {
            (tuple(own), table, tuple(target), ON_DELETE[action] + (f" on {column} only" if column else ""))
            for own, table, target, action, column in rows
        }

    def partitioning(self) -> dict[str, str] | None:
        rows = self._rows("select lower(pg_get_partkeydef(%(relation)s::regclass))")
        if rows[0][0] is None:
            return None
        strategy, column = re.match(r"(\w+) \((\w+)\)", rows[0][0]).groups()  # type: ignore[union-attr]
        unit = self._rows(
            "select unit from penguin.partition_rules where to_regclass(table_name) = %(relation)s::regclass"
        )
        return {"strategy": strategy, "column": column, **({"unit": unit[0][0]} if unit else {})}

    def policies(self) -> set[str]:
        """Policies by name, without those that follow from the tier."""
        rows = self._rows("select polname from pg_policy where polrelid = %(relation)s::regclass")
        return {row[0] for row in rows} - {"staff_all", "worker_all", "analyst_read", "owner_counts"}

    def is_invokers_view(self) -> bool:
        rows = self._rows("select reloptions from pg_class where oid = %(relation)s::regclass and relkind = 'v'")
        return bool(rows) and "security_invoker=true" in (rows[0][0] or [])


def _scalar(connection: psycopg.Connection, query: str, *values: object) -> Any:
    row = connection.execute(query, values).fetchone()  # type: ignore[arg-type]
    return row[0] if row else None
