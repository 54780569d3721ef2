"""Rules that every table of the live schema keeps. Exceptions, each with its reason, may only get fewer."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from servers import Databases

from penguin_pipelines.lib import db
from penguin_pipelines.settings import TIERS

pytestmark = [pytest.mark.every_postgres, pytest.mark.parametrize("tier", TIERS)]

_OURS = """
  select c.oid, n.nspname || '.' || c.relname as name, c.relispartition, c.relrowsecurity, c.relforcerowsecurity
  from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p') and n.nspname in ('public', 'penguin', 'marts', 'ops', 'archive')
    and c.relname <> 'alembic_version'
"""

WITHOUT_ROW_LEVEL_SECURITY = {
    "penguin.tombstones": "keys of deleted rows, readable by pm_loader alone",
    "penguin.partition_rules": "names of tables, no tenant's data",
    "penguin.alert_notifications": "what is told to operators, no grant to any tenant's role",
    "ops.": "bookmarks and slices of the platform, no grant to any tenant's role",
}


@pytest.fixture
def connection(migrated: Databases, tier: str) -> Iterator[psycopg.Connection]:
    with db.connect(migrated[tier], tier) as connection:
        yield connection


def names(connection: psycopg.Connection, query: str) -> list[str]:
    rows = connection.execute("with ours as (" + _OURS + ") " + query)  # type: ignore[arg-type, operator]
    return sorted(row[0] for row in rows)


def excused(name: str, exceptions: dict[str, str]) -> bool:
    return any(name == e or (e.endswith(".") and name.startswith(e)) for e in exceptions)


def test_every_foreign_key_is_the_start_of_an_index(connection: psycopg.Connection, tier: str) -> None:
    """In any order of the columns; a partial index counts when it leaves out only nulls of the key."""
    assert (
        names(
            connection,
            """
            select o.name || ' ' || k.conname
            from pg_constraint as k join ours as o on o.oid = k.conrelid
            where k.contype = 'f' and k.conparentid = 0 and not exists (
              select from pg_index as i
              where i.indrelid = k.conrelid and i.indisvalid
                and (i.indkey::smallint[])[0:array_length(k.conkey, 1) - 1] @> k.conkey
                and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) like '%%IS NOT NULL)')
            )
            and not exists (  -- the other column of a composite key leads: found by it as well as by both
              select from pg_index as i
              join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
              where i.indrelid = k.conrelid and i.indkey[0] = any (k.conkey) and a.attname <> 'tenant_id'
            )
            """.replace("%%", "%"),
        )
        == []
    )


def test_every_tenant_table_and_partition_has_forced_row_level_security(
    connection: psycopg.Connection, tier: str
) -> None:
    open_tables = names(connection, "select name from ours where not (relrowsecurity and relforcerowsecurity)")
    assert [name for name in open_tables if not excused(name, WITHOUT_ROW_LEVEL_SECURITY)] == []


def test_every_table_with_a_tenant_column_has_a_policy(connection: psycopg.Connection, tier: str) -> None:
    """On the table itself: a partition has none and therefore shows nothing when it is read directly."""
    without = names(
        connection,
        """
        select o.name from ours as o join pg_attribute as a on a.attrelid = o.oid and a.attname = 'tenant_id'
        where not o.relispartition and not exists (select from pg_policy where polrelid = o.oid)
        """,
    )
    assert [name for name in without if not excused(name, WITHOUT_ROW_LEVEL_SECURITY)] == []


def test_no_partition_has_a_policy_of_its_own(connection: psycopg.Connection, tier: str) -> None:
    assert (
        names(connection, "select o.name from ours as o join pg_policy on polrelid = o.oid where relispartition") == []
    )


def test_every_time_stamp_has_a_zone(connection: psycopg.Connection, tier: str) -> None:
    query = "select o.name || '.' || a.attname from ours as o join pg_attribute as a on a.attrelid = o.oid "
    assert names(connection, query + "where a.atttypid in ('timestamp'::regtype, 'timetz'::regtype)") == []


def test_every_key_is_a_uuid_a_bigint_or_a_natural_text(connection: psycopg.Connection, tier: str) -> None:
    found = names(
        connection,
        """
        select distinct o.name || '.' || a.attname
        from ours as o
        join pg_constraint as k on k.conrelid = o.oid and k.contype = 'p'
        join pg_attribute as a on a.attrelid = o.oid and a.attnum = any (k.conkey)
        left join pg_partitioned_table as p on p.partrelid = o.oid
        where not o.relispartition
          and a.atttypid not in ('uuid'::regtype, 'bigint'::regtype, 'varchar'::regtype, 'text'::regtype)
          and not (a.attnum = any (coalesce(p.partattrs::smallint[], '{}')))
        """,
    )
    assert found == [], "A partition column may be a date or time; everything else of a key identifies."


def test_every_table_has_a_primary_key_and_a_comment(connection: psycopg.Connection, tier: str) -> None:
    query = "select name from ours where not relispartition and "
    assert names(connection, query + "obj_description(oid, 'pg_class') is null") == []
    assert names(connection, query + "not exists (select from pg_index where indrelid = oid and indisprimary)") == []


def test_no_column_name_ends_with_at(connection: psycopg.Connection, tier: str) -> None:
    query = "select o.name || '.' || a.attname from ours as o join pg_attribute as a on a.attrelid = o.oid "
    assert names(connection, query + "where a.attname like '%\\_at' and not a.attisdropped") == []


def test_every_table_belongs_to_the_owner_role(connection: psycopg.Connection, tier: str) -> None:
    query = "select name from ours join pg_class using (oid) where pg_get_userbyid(relowner) <> 'pm_owner'"
    assert names(connection, query) == []


def test_change_xid_has_its_default_and_its_trigger_wherever_it_is(connection: psycopg.Connection, tier: str) -> None:
    assert (
        names(
            connection,
            """
            select o.name from ours as o join pg_attribute as a on a.attrelid = o.oid and a.attname = 'change_xid'
            left join pg_attrdef as d on d.adrelid = o.oid and d.adnum = a.attnum
            where o.name <> 'penguin.tombstones' and not o.relispartition and (
              not a.attnotnull or pg_get_expr(d.adbin, d.adrelid) is distinct from 'pg_current_xact_id()'
              or (select count(*) from pg_trigger where tgrelid = o.oid and tgname in
                  ('mark_changed', 'leave_tombstone', 'leave_tombstone_of_old_key', 'leave_tombstone_of_all')) <> 4)
            """,
        )
        == []
    )
