"""The stanzas of tables/ against the migrated schema: each column is read or withheld, none forgotten."""

from __future__ import annotations

import pytest
from servers import PSEUDONYM_KEY, Databases

from penguin_pipelines.lib import db, extract, specs

BODIES = {"content.email_content"}  # bodies and headers never enter the warehouse
PERSONAL = ("email", "address", "subject", "first_name", "last_name", "family_name", "given_name", "url", "phone")
NOT_PERSONAL = {
    "smtp_ip_address_id": "an id",
    "smtp_ip_addresses.ip_address": "our own sending address",
}


@pytest.mark.parametrize("source", specs.SOURCES)
def test_every_column_of_a_source_is_classed_in_its_stanza(migrated: Databases, source: str) -> None:
    with extract.open_snapshot(migrated[source], source, pseudonym_key=PSEUDONYM_KEY) as snapshot:
        undeclared = {t.name: extract.check_columns(snapshot, t) for t in specs.tables(source)}
    assert {name: columns for name, columns in undeclared.items() if columns} == {}, (
        f"Class them in penguin_pipelines/tables/{source}.yml: plain, pseudonym or never."
    )


@pytest.mark.parametrize("source", specs.SOURCES)
def test_what_is_withheld_exists(migrated: Databases, source: str) -> None:
    """A misspelt name under `never` would protect nothing."""
    with extract.open_snapshot(migrated[source], source, pseudonym_key=PSEUDONYM_KEY) as snapshot:
        for table in specs.tables(source):
            for column, kind in table.columns.never.items():
                assert snapshot.columns[table.name].get(column) == specs.long_type(kind), f"{table.full_name}.{column}"


@pytest.mark.parametrize("source", specs.SOURCES)
def test_every_table_of_a_source_has_a_stanza(migrated: Databases, source: str) -> None:
    with db.connect(migrated[source], source) as connection:
        rows = connection.execute(
            "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') "
            "and not relispartition"
        )
        live = {f"{source}.{row[0]}" for row in rows}
    assert live - BODIES == {t.full_name for t in specs.tables(source)}


@pytest.mark.parametrize("table", specs.all_tables(), ids=lambda t: t.full_name)
def test_no_personal_column_is_copied_in_clear(table: specs.Table) -> None:
    clear = [
        column
        for column, kind in table.columns.plain.items()
        if any(part in column for part in PERSONAL)
        and not column.endswith(("_id", "_verified"))
        and column not in ("email_verified", "max_emails_per_month", "max_email_accounts")
        and f"{table.name}.{column}" not in NOT_PERSONAL
        and kind not in ("boolean", "integer")
    ]
    assert clear == [], f"Class {clear} of {table.full_name} as pseudonym or never, or say here why not."


@pytest.mark.parametrize("source", specs.SOURCES)
def test_a_stanza_follows_the_key_of_its_table(migrated: Databases, source: str) -> None:
    """A raw key that is not unique in the source would merge two rows into one."""
    with db.connect(migrated[source], source) as connection:
        for table in specs.tables(source):
            row = connection.execute(
                "select array(select attname::text from pg_attribute "
                "where attrelid = indrelid and attnum = any (indkey)) "
                "from pg_index where indrelid = %s::regclass and indisprimary",
                [table.name],
            ).fetchone()
            assert row is not None
            partition = {"opened", "clicked", "interacted", "created", "sampled"}
            assert set(table.raw_key) | {"tenant_id"} >= set(row[0]) - partition, table.full_name
