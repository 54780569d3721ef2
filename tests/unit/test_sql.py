"""Named blocks: what is read from a file of SQL, and how it is composed."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg import sql

from penguin_pipelines.lib import sql as named

FILE = """\
-- A line before the first block belongs to none.
-- name: first
-- What it is for.
select 1 from {table};

-- name: second
-- Another.
select %(value)s
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sample.sql").write_text(FILE)
    monkeypatch.setattr(named, "FOLDER", tmp_path)
    named.blocks.cache_clear()


@pytest.fixture(autouse=True)
def forget() -> object:
    yield
    named.blocks.cache_clear()


def test_a_file_is_cut_at_its_names_and_the_last_semicolon_goes() -> None:
    found = named.blocks("sample")
    assert list(found) == ["first", "second"]
    assert found["first"] == "-- What it is for.\nselect 1 from {table}"
    assert found["second"].endswith("select %(value)s")


def test_identifiers_are_composed_and_quoted() -> None:
    composed = named.compose("sample", "first", table=sql.Identifier("Odd", 'na"me'))
    assert composed.as_string(None).endswith('from "Odd"."na""me"')


def test_a_missing_block_is_an_error() -> None:
    with pytest.raises(KeyError):
        named.compose("sample", "third")
