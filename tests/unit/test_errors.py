"""The sentences and masks of `errors.py`; who raises them is tested where it is raised."""

from __future__ import annotations

import inspect

import pytest

from penguin_pipelines import errors
from penguin_pipelines.errors import PenguinError, UnknownName, mask


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://penguin:s3cret@127.0.0.1:5432/penguin_oltp",
        "postgresql+psycopg2://penguin:s3cret@db/x and redis://:s3cret@127.0.0.1:6379/0",
        "postgres://penguin:s3/c@ret-s3cret@db/x",
        "https://user:s3cret@example.org/path",
        "host=db password=s3cret user=x",
        r"host=db password='it\'s s3cret' user=x",
        "postgresql://db/x?password=s3cret&sslmode=require",
        '{"password": "s3cret"}',
        "PGPASSWORD=s3cret psql",
    ],
)
def test_mask_hides_passwords_wherever_they_are_written(text: str) -> None:
    assert "s3cret" not in mask(text)
    assert "***" in mask(text)


def test_mask_keeps_what_is_no_secret() -> None:
    for text in ("redis://127.0.0.1:6379/0", "postgresql://penguin@db:5432/x", "mail a@b.org: no password"):
        assert mask(text) == text
    assert mask("postgresql://penguin:pw@db:5432/x") == "postgresql://penguin:***@db:5432/x"


def test_no_error_can_carry_a_password() -> None:
    assert "s3cret" not in str(PenguinError("cannot reach postgresql://u:s3cret@db/x"))


def test_an_unknown_name_suggests_the_nearest_one() -> None:
    error = UnknownName.of("table", "campagns", ["leads", "campaigns"])
    assert str(error) == "There is no table 'campagns'; did you mean 'campaigns'?"


def test_an_unknown_name_without_a_near_one_lists_the_valid_ones() -> None:
    assert str(UnknownName.of("tier", "zzz", ["queue", "olap"])).endswith("choose from olap, queue.")
    assert "and 5 more" in str(UnknownName.of("table", "zzz", [f"t{i}" for i in range(25)]))


def test_only_what_time_can_heal_is_transient() -> None:
    ours = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, PenguinError)]
    assert {c.__name__ for c in ours if c.transient} == {"ConnectionFailed", "Busy", "TableRewritten"}
