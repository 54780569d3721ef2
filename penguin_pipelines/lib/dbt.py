"""The dbt project as files and as a program: its manifest, its source descriptions, how to call it.

Here is what needs no database. Not here: running a build (lib/build.py), what the models say (dbt_project/), assets
made of the manifest (defs/).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from penguin_pipelines.errors import BuildFailed
from penguin_pipelines.lib import lineage, specs
from penguin_pipelines.lib.specs import Table
from penguin_pipelines.settings import child_environment

PACKAGE = Path(__file__).parent.parent
PROJECT = PACKAGE.parent / "dbt_project"
MANIFEST = PROJECT / "target" / "manifest.json"
LINEAGE = MANIFEST.with_name("lineage.json")
"""Beside the manifest: `models` with the columns behind each column, and `unknown`, why a model has none."""
_STAMP = MANIFEST.with_suffix(".sha256")

# Nothing runs more seldom than once an hour; a day without a read means that ingestion stands still.
FRESHNESS = {"warn_after": {"count": 2, "period": "hour"}, "error_after": {"count": 24, "period": "hour"}}

# What of a model's configuration decides its figures; descriptions, tags and groups do not.
_DECIDING = ("materialized", "incremental_strategy", "unique_key", "frozen_columns", "keep_when", "nullable_keys")
_VARIABLE = re.compile(r"""\bvar\(\s*['"](\w+)['"]""")
_CALL = re.compile(r"\b(\w+)\(")
_COMMENT = re.compile(r"^comment on column (\w+)\.(\w+) is '((?:[^']|'')*)';", re.MULTILINE)
_GENERATED = "# Generated from penguin_pipelines/tables by `make generate`; edit the stanzas, not this file.\n"
_ADDED = {
    "_change_xid": "transaction of the source that last wrote the row",
    "_loaded": "when this version of the row was loaded",
    "_deleted": "when the row was found deleted at its source; null while it lives, and staging shows only those",
}


@dataclass(frozen=True)
class UnitTest:
    """A unit test: rows that go into a model and those that must come out. `model` is its layer and name."""

    name: str
    model: tuple[str, str]
    description: str


def dbt_command(args: Sequence[str]) -> list[str]:
    """The command line of dbt, as installed beside this Python, on our project."""
    program = Path(sys.executable).with_name("dbt")
    folders = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
    return [str(program), "--no-use-colors", *args, *folders]


def build_command(args: Sequence[str]) -> list[str]:
    """The same for builds, which run dbt in our way (lib/dbt_program.py)."""
    return [sys.executable, "-P", "-m", "penguin_pipelines.lib.dbt_program", *dbt_command(args)[1:]]


def variables() -> dict[str, Any]:
    """The variables of the project, which rules outside dbt read as well."""
    return _variables((PROJECT / "dbt_project.yml").read_text())


@cache
def _variables(text: str) -> dict[str, Any]:
    return yaml.safe_load(text)["vars"]


def rules() -> str:
    """One value for what rows are decided by: the variables (thresholds, versions of rules) and the seeds.

    The text of models and macros is not in it: most edits move no figure. Whoever changes a rule there raises its
    version.
    """
    decided = {name: value for name, value in variables().items() if name != "as_of"}
    digest = hashlib.sha256(json.dumps(decided, sort_keys=True).encode())
    for path in sorted((PROJECT / "seeds").glob("*.csv")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def fingerprint() -> str:
    """One value for all files that the project is made of."""
    digest = hashlib.sha256()
    for name, path in sorted(_files()):
        digest.update(f"{name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files() -> Iterator[tuple[str, Path]]:
    generated = {PROJECT / "target", PROJECT / "logs"}
    for path in PROJECT.rglob("*"):
        if path.is_file() and not generated & set(path.parents):
            yield path.relative_to(PROJECT).as_posix(), path
    yield from ((path.name, path) for path in (PACKAGE / "tables").glob("*.yml"))


def ensure_manifest(force: bool = False) -> Path:
    """The manifest of the project as it is now, parsed anew when any file changed. Needs no database; processes that
    ask at once wait for one of them."""
    with _only_one(MANIFEST.parent):
        if is_current() and not force:
            return MANIFEST
        wanted = fingerprint()
        parse(MANIFEST.parent / "parsing")
        _write_lineage(MANIFEST.parent / "parsing")
        # Replaced in one step: a reader without the lock finds the old manifest or the new one.
        (MANIFEST.parent / "parsing" / "manifest.json").replace(MANIFEST)
        _STAMP.write_text(wanted)
    return MANIFEST


def unit_tests() -> list[UnitTest]:
    """The unit tests of the manifest."""
    manifest = json.loads(MANIFEST.read_text())
    found = []
    for test in manifest["unit_tests"].values():
        model = manifest["nodes"][test["depends_on"]["nodes"][0]]
        found.append(UnitTest(test["name"], (model["fqn"][1], model["alias"]), test["description"]))
    return sorted(found, key=lambda test: test.name)


def _write_lineage(parsed: Path) -> None:
    manifest = json.loads((parsed / "manifest.json").read_text())
    models, unknown = lineage.lineage(manifest, PROJECT, variables())
    (parsed / "lineage.json").write_text(json.dumps({"models": models, "unknown": unknown}))
    (parsed / "lineage.json").replace(LINEAGE)


def views(manifest: Path) -> list[str]:
    """Schema and name of every view of a manifest."""
    nodes = json.loads(manifest.read_text())["nodes"].values()
    return [f'"{n["schema"]}"."{n["alias"]}"' for n in nodes if n["config"].get("materialized") == "view"]


def is_current() -> bool:
    """Whether there is a manifest and it is of the project as it is now."""
    return MANIFEST.exists() and LINEAGE.exists() and _STAMP.exists() and _STAMP.read_text() == fingerprint()


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def forget_stale_parse(target: Path) -> None:
    """Has dbt parse everything anew in that folder when a file of descriptions changed. Of a model whose query changed
    too its partial parse keeps the old columns, and the contract of a view then fails until somebody removes it."""
    digest = hashlib.sha256()
    for path in sorted((PROJECT / "models").rglob("*.yml")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    stamp = target / "descriptions.sha256"
    if not stamp.exists() or stamp.read_text() != digest.hexdigest():
        (target / "partial_parse.msgpack").unlink(missing_ok=True)
        target.mkdir(parents=True, exist_ok=True)
        stamp.write_text(digest.hexdigest())


def parse(target: Path, environment: Mapping[str, str] | None = None) -> None:
    """Writes the manifest of the project as it is now into a folder; raises BuildFailed with dbt's words. Relations
    bear the name of the database that the environment gives."""
    forget_stale_parse(target)
    logs = ["--log-path", str(target)]
    try:
        done = subprocess.run(
            dbt_command(["parse", "--target-path", str(target), *logs]),
            env=environment or child_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            shutil.rmtree(target, ignore_errors=True)
    except FileNotFoundError:
        raise BuildFailed(
            "dbt is not installed beside this Python; install the project's dependencies with: make install"
        ) from None
    if done.returncode:
        raise BuildFailed(
            f"The dbt project cannot be parsed: {last_words(done.stdout)}. "
            "See all of it with: dbt parse, in dbt_project."
        )


def model_fingerprints(manifest: Mapping[str, Any]) -> dict[str, str]:
    """One value by model and seed for all that decides its figures: its query, the macros and variables that it uses
    and how it is kept. What stands upstream is not in it."""
    values = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())["vars"]
    macros = {m["name"]: m["macro_sql"] for m in manifest["macros"].values() if m["package_name"] == "penguin"}
    found = {}
    for node in manifest["nodes"].values():
        if node["resource_type"] not in ("model", "seed"):
            continue
        text = node.get("raw_code") or ""
        texts = [text, *_macro_texts(macros, text)]
        used = sorted({name for text in texts for name in _VARIABLE.findall(text)})
        config = {name: node["config"].get(name) for name in _DECIDING}
        parts = [texts, [(name, values.get(name)) for name in used], config]
        if node["resource_type"] == "seed":
            parts.append(node["checksum"])
        found[node["name"]] = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
    return found


def _macro_texts(macros: Mapping[str, str], text: str) -> list[str]:
    """Texts of our macros that a text calls, and of those that these call. Found by name: the manifest that a build
    leaves lists also what was called on the way, which depends on the data."""
    waiting, seen = [text], set()
    while waiting:
        called = {name for name in _CALL.findall(waiting.pop()) if name in macros} - seen
        seen |= called
        waiting += [macros[name] for name in called]
    return [macros[name] for name in sorted(seen)]


def last_words(output: str) -> str:
    """What dbt complains about, in one line."""
    lines = [re.sub(r"^\d\d:\d\d:\d\d\s+", "", line).strip() for line in output.splitlines()]
    said = [
        line
        for line in lines
        if line and not line.startswith(("Running with", "Registered adapter", "Unable to do partial"))
    ]
    return " ".join(said[-4:]) or "it says nothing"


def render_sources() -> dict[Path, str]:
    """The source descriptions that the stanzas imply, by path of the file that holds them."""
    return {
        PROJECT / "models" / "staging" / source / f"_{source}__sources.yml": _sources_file(source)
        for source in specs.SOURCES
    }


def _sources_file(source: str) -> str:
    described = {
        "name": source,
        "schema": f"raw_{source}",
        "description": f"Copies of the {source} tables, classified column by column; written by ingestion only.",
        "config": {"freshness": FRESHNESS},
        "tables": [_source_table(table) for table in specs.tables(source)],
    }
    return _GENERATED + yaml.safe_dump(
        {"version": 2, "sources": [described]}, sort_keys=False, width=160, allow_unicode=True
    )


def meanings(table: Table) -> dict[str, str]:
    """What each raw column of a table holds, from the comments of the migrations."""
    comments = _column_comments(table.source)
    return {column.name: _meaning(table, column, comments) for column in table.raw_columns}


def _source_table(table: Table) -> dict[str, Any]:
    # Freshness asks the bookmarks of the source, for all its tables are read in one snapshot: one in which nothing
    # happens keeps its bookmark and is not stale, and max(_loaded) would read all of it.
    asked = f"select max(source_read) from ops.bookmarks where source = '{table.source}'"
    described = meanings(table)
    columns = [
        {"name": column.name, "description": described[column.name], "data_type": column.type}
        for column in table.raw_columns
    ]
    columns += [{"name": name, "description": text} for name, text in _ADDED.items()]
    return {
        "name": table.name,
        "description": table.description,
        "config": {"loaded_at_query": asked},
        "columns": columns,
    }


def _meaning(table: Table, column: specs.Column, comments: dict[tuple[str, str], str]) -> str:
    said = comments.get((table.name, column.origin), "")
    if column.how == "domain":
        return f"domain of {column.origin}, in lower case"
    if column.how == "pseudonym":
        return "keyed hash, never the value itself" + (f"; {said}" if said else "")
    if said:
        return said
    if column.name == table.tenant:
        return "tenant that owns the row"
    if column.name in table.key:
        return "key of the row in its source"
    return f"{column.name.replace('_', ' ')}, as in the source"


@cache
def _column_comments(source: str) -> dict[tuple[str, str], str]:
    """What the migrations of the tier say about its columns."""
    found: dict[tuple[str, str], str] = {}
    for path in sorted((PACKAGE / "migrations" / source).glob("*.up.sql")):
        for table, column, text in _COMMENT.findall(path.read_text()):
            found[table, column] = text.replace("''", "'")
    return found
