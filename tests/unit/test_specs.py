"""Stanzas: what is derived from one, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from penguin_pipelines.errors import PenguinError, UnknownName
from penguin_pipelines.lib import specs
from penguin_pipelines.lib.specs import Table


def stanza(**fields: Any) -> Table:
    columns = {"plain": {"id": "uuid", "tenant_id": "uuid", "created": "timestamptz"}, "pseudonym": {"email": "text"}}
    given = {"source": "oltp", "name": "things", "description": "Things.", "key": ["id"], "slice": "none"}
    return Table(**{**given, "columns": columns, **fields})


def test_every_stanza_of_the_project_is_usable() -> None:
    names = [table.full_name for table in specs.all_tables()]
    assert len(names) > 30 and len(set(names)) == len(names)


def test_the_raw_key_starts_with_the_tenant() -> None:
    assert stanza(tenant="tenant_id").raw_key == ("tenant_id", "id")
    assert stanza(tenant="tenant_id", key=["tenant_id", "id"]).raw_key == ("tenant_id", "id")
    assert stanza().raw_key == ("id",)


def test_raw_columns_are_plain_then_pseudonyms_as_text_then_domains() -> None:
    columns = {
        "plain": {"id": "uuid"},
        "pseudonym": {"email": "varchar(9)"},
        "never": {"secret": "text"},
        "domains": ["email"],
    }
    found = [(c.name, c.type, c.how) for c in stanza(columns=columns).raw_columns]
    assert found == [("id", "uuid", "plain"), ("email", "text", "pseudonym"), ("email_domain", "text", "domain")]


def test_the_type_of_a_pseudonym_in_the_source_is_kept_for_comparison() -> None:
    assert stanza().source_types["email"] == "text"
    assert stanza().source_types["created"] == "timestamp with time zone"


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("varchar(10)", "character varying(10)"),
        ("char(2)", "character(2)"),
        ("timestamptz", "timestamp with time zone"),
        ("numeric(10,2)", "numeric(10,2)"),
        ("text[]", "text[]"),
        ("timestamptz[]", "timestamp with time zone[]"),
    ],
)
def test_a_short_type_reads_as_the_catalog_writes_it(short: str, long: str) -> None:
    assert specs.long_type(short) == long


@pytest.mark.parametrize(
    "fields",
    [
        {"key": ["nothing"]},
        {"tenant": "nothing"},
        {"slice": "entity nothing"},
        {"floor": "90 days", "floor_column": "nothing"},
        {"indexes": [["id", "nothing"]]},
    ],
)
def test_a_field_that_names_no_column_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="names 'nothing', which is not one of its plain or pseudonym columns"):
        stanza(**fields)


@pytest.mark.parametrize("fields", [{"key": []}, {"slice": "sometimes"}, {"mode": "updated"}, {"colour": "red"}])
def test_an_impossible_field_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        stanza(**fields)


def test_a_wrong_file_names_the_table_and_the_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "tables: [{name: things, description: x, key: [id], slice: none, keys: [id], columns: {plain: {id: uuid}}}]"
    (tmp_path / "queue.yml").write_text(text)
    monkeypatch.setattr(specs, "FOLDER", tmp_path)
    specs.tables.cache_clear()
    try:
        with pytest.raises(PenguinError, match=r"'things' in tables/queue.yml is not usable: keys"):
            specs.tables("queue")
    finally:
        specs.tables.cache_clear()


def test_a_table_is_found_by_its_full_name_and_by_a_name_that_only_one_source_has() -> None:
    assert specs.find("campaigns") is specs.find("oltp.campaigns")


def test_a_name_that_several_sources_have_asks_which(monkeypatch: pytest.MonkeyPatch) -> None:
    twins = (stanza(), stanza(source="queue"))
    monkeypatch.setattr(specs, "all_tables", lambda: twins)
    with pytest.raises(UnknownName, match=r"in oltp, queue; write oltp\.things"):
        specs.find("things")


@pytest.mark.parametrize(
    ("wrong", "near"), [("oltp.campagns", "oltp.campaigns"), ("content.email_mesages", "content.email_messages")]
)
def test_an_unknown_table_asks_whether_the_nearest_was_meant(wrong: str, near: str) -> None:
    with pytest.raises(UnknownName, match=f"There is no table '{wrong}'; did you mean '{near}'"):
        specs.find(wrong)


def test_an_unknown_source_names_the_valid_ones() -> None:
    with pytest.raises(UnknownName, match="no source 'olap'"):
        specs.tables("olap")
