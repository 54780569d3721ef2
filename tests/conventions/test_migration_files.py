"""What a migration file looks like; what is in it is tested on a server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from penguin_pipelines.migrations import runner
from penguin_pipelines.settings import TIERS

REVISIONS = [revision for tier in TIERS for revision in runner.revisions(tier)]


@pytest.mark.parametrize("revision", REVISIONS, ids=lambda r: f"{r.tier}-{r.name}")
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_migration_has_both_files_and_says_why_in_its_first_line(revision: runner.Revision, direction: str) -> None:
    first = revision.statements(direction).splitlines()[0]
    assert re.match(r"-- [A-Z].{20,}|-- Takes back \S+", first), (
        f"{revision.name}.{direction}.sql opens with {first!r}."
    )


@pytest.mark.parametrize("revision", REVISIONS, ids=lambda r: f"{r.tier}-{r.name}")
def test_a_migration_says_when_it_may_run_and_what_it_locks(revision: runner.Revision) -> None:
    head = revision.statements("up")[:600]
    assert re.search(r"^-- When: (before|after) the deploy\.", head, re.MULTILINE), (
        f"{revision.name} does not say when."
    )
    assert "Locks:" in head, f"{revision.name} does not say what it locks."


@pytest.mark.parametrize("tier", TIERS)
def test_revisions_count_without_gap(tier: str) -> None:
    numbers = [r.number for r in runner.revisions(tier)]
    assert numbers == [f"{n:04}" for n in range(1, len(numbers) + 1)]


def test_no_file_lies_beside_the_pairs() -> None:
    """A typing error in a name would leave a migration out in silence."""
    known = re.compile(r"\d{4}_\w+\.(up|down)\.sql|schema\.txt|roles\.sql|(runner|__init__)\.py")
    stray = [
        p.relative_to(runner.HERE).as_posix()
        for p in Path(runner.HERE).rglob("*")
        if p.is_file() and "__pycache__" not in p.parts and not known.fullmatch(p.name)
    ]
    assert stray == []
