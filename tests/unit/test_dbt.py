"""The dbt project as files: manifest, source descriptions, what a build tells about a failure. No server is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import pytest
import yaml

from penguin_pipelines.lib import build, dbt, specs


def test_sources_describe_every_stanza() -> None:
    for path, text in dbt.render_sources().items():
        source = yaml.safe_load(text)["sources"][0]
        tables = {t["name"]: t for t in source["tables"]}
        assert path.name == f"_{source['name']}__sources.yml"
        assert set(tables) == {t.name for t in specs.tables(source["name"])}
        for table in specs.tables(source["name"]):
            described = {c["name"]: c["description"] for c in tables[table.name]["columns"]}
            assert {c.name for c in table.raw_columns} <= set(described)
            assert all(described.values())
            assert not set(table.columns.never) & set(described)


def test_sources_on_disk_are_those_of_the_stanzas() -> None:
    for path, text in dbt.render_sources().items():
        assert path.read_text() == text, f"{path.name} is not what the stanzas imply; run: make generate"


def test_manifest_is_parsed_once_and_again_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[Path] = []

    def parse(target: Path) -> None:
        parsed.append(target)
        target.mkdir(parents=True, exist_ok=True)
        (target / "manifest.json").write_text('{"nodes": {}, "sources": {}, "macros": {}}')

    (tmp_path / "models").mkdir()
    model = tmp_path / "models" / "a.sql"
    model.write_text("select 1")
    (tmp_path / "dbt_project.yml").write_text("vars: {}")
    monkeypatch.setattr(dbt, "PROJECT", tmp_path)
    monkeypatch.setattr(dbt, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(dbt, "MANIFEST", tmp_path / "target" / "manifest.json")
    monkeypatch.setattr(dbt, "LINEAGE", tmp_path / "target" / "lineage.json")
    monkeypatch.setattr(dbt, "_STAMP", tmp_path / "target" / "manifest.sha256")
    monkeypatch.setattr(dbt, "parse", parse)
    assert dbt.ensure_manifest() == tmp_path / "target" / "manifest.json"
    os.utime(model)  # touched, not changed
    dbt.ensure_manifest()
    assert len(parsed) == 1
    dbt.LINEAGE.unlink()
    dbt.ensure_manifest()
    assert len(parsed) == 2
    model.write_text("select 2")
    dbt.ensure_manifest()
    dbt.ensure_manifest(force=True)
    assert len(parsed) == 4


def test_every_model_and_column_is_described() -> None:
    manifest = json.loads(dbt.ensure_manifest().read_text())
    models = [n for n in manifest["nodes"].values() if n["resource_type"] in ("model", "seed")]
    assert len(models) > 40
    for model in models:
        assert model["description"], model["name"]
        assert model["columns"], model["name"]
        assert all(c["description"] for c in model["columns"].values()), model["name"]
        assert model["config"]["meta"]["dagster"]["group"], model["name"]


def test_singular_tests_say_when_they_fail() -> None:
    for path in (dbt.PROJECT / "tests").glob("*.sql"):
        assert re.search(r"^-- (Fails|Warns) if\b", path.read_text(), re.MULTILINE), path.name


def test_first_month_that_is_kept() -> None:
    assert build._months_before(date(2026, 11, 20), 24) == date(2024, 11, 1)
    assert build._months_before(date(2026, 1, 31), 1) == date(2025, 12, 1)


def test_connection_and_clock_reach_dbt() -> None:
    given = build.environment(
        "postgresql://me:secret@db:6543/olap", datetime(2026, 1, 2, 3, tzinfo=UTC), UUID(int=7), 2
    )
    assert (given["PENGUIN_DBT_HOST"], given["PENGUIN_DBT_PORT"], given["PENGUIN_DBT_DATABASE"]) == (
        "db",
        "6543",
        "olap",
    )
    assert given["DBT_ENV_SECRET_PASSWORD"] == "secret"
    assert "penguin.as_of=2026-01-02T03:00:00+00:00" in given["PGOPTIONS"]
    assert f"penguin.build_id={UUID(int=7)}" in given["PGOPTIONS"]
    assert given["DO_NOT_TRACK"] == "1"


def test_a_failure_is_a_sentence(tmp_path: Path) -> None:
    results = tmp_path / "run_results.json"
    assert "before it built anything: out of luck." in build._failure(results, ["out of  luck"])
    failed = [
        {"status": "success", "unique_id": "model.penguin.a", "message": "fine"},
        {"status": "error", "unique_id": "model.penguin.b", "message": "relation does\n not exist"},
        {"status": "fail", "unique_id": "test.penguin.c.0f", "message": "Got 2 results"},
    ]
    results.write_text(json.dumps({"results": failed}))
    assert build._failure(results, []).startswith("The build failed at model b and 1 more: relation does not exist")


def test_progress_is_told() -> None:
    told: list[str] = []
    said: list[str] = []
    node = {"unique_id": "model.penguin.dim_tenants"}
    line = {
        "info": {"name": "LogModelResult", "level": "info"},
        "data": {"index": 3, "total": 9, "status": "OK", "node_info": node},
    }
    build._listen(json.dumps(line), said, told.append)
    build._listen(
        json.dumps({"info": {"name": "X", "level": "error", "msg": "no such file"}, "data": {}}),
        said,
        told.append,
    )
    build._listen("Traceback", said, told.append)
    assert told == ["3 of 9 ok model dim_tenants"]
    assert said == ["no such file", "Traceback"]


def test_what_was_parsed_is_forgotten_with_the_descriptions_and_with_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else dbt keeps the old columns of a model whose query changed with them, and its contract fails for good."""
    project, target = tmp_path / "project", tmp_path / "target"
    descriptions, query = project / "models" / "_a__models.yml", project / "models" / "a.sql"
    descriptions.parent.mkdir(parents=True)
    target.mkdir()
    monkeypatch.setattr(dbt, "PROJECT", project)
    parsed = target / "partial_parse.msgpack"

    def is_forgotten() -> bool:
        parsed.touch()
        dbt.forget_stale_parse(target)
        return not parsed.exists()

    descriptions.write_text("data_type: date")
    query.write_text("select 1")
    assert is_forgotten() and not is_forgotten()
    query.write_text("select 2")
    assert not is_forgotten()
    descriptions.write_text("data_type: text")
    assert is_forgotten() and not is_forgotten()


def test_every_view_for_readers_has_a_contract() -> None:
    manifest = json.loads(dbt.ensure_manifest().read_text())
    views = [
        node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model"
        and node["config"]["materialized"] == "view"
        and node["fqn"][1] in ("marts", "tenant")
    ]
    assert len(views) > 50
    for view in views:
        assert view["config"]["contract"]["enforced"], view["name"]
        assert all(column["data_type"] for column in view["columns"].values()), view["name"]


TELLS_NOBODY = """
import threading
from types import SimpleNamespace
from penguin_pipelines.lib import dbt_program
dbt_program.msg_to_dict = lambda message: {}
error = SimpleNamespace(info=SimpleNamespace(name="", level="error"))
threading.Thread(target=dbt_program._say, args=[error]).start()
threading.Event().wait()
"""


def test_dbt_ends_when_the_build_that_listened_is_dead() -> None:
    listens, tells = os.pipe()
    os.close(listens)
    # A thread tells, as dbt's do: an error that ends the thread leaves the others waiting for it, for ever.
    program = [sys.executable, "-c", TELLS_NOBODY]
    ended = subprocess.run(program, stdout=tells, stderr=subprocess.PIPE, check=False, timeout=120)
    os.close(tells)
    assert (ended.returncode, ended.stderr) == (1, b""), "It ended by an error, not because nobody listens."
