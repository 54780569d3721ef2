"""How the code is cut: who may import what, where SQL and the environment live. A failure says where the code goes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "penguin_pipelines"
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)

STATEMENT = re.compile(
    r"\s*(select\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|merge\s+into\s|with\s+\w+\s+as\s*\()",
    re.IGNORECASE,
)
# Statements in Python that stay, by file: how many, and why. Numbers may only fall.
STATEMENTS = {
    "migrations/runner.py": (4, "the migrator's own lock and version table, asked before any schema exists"),
    "lib/services/postgres.py": (2, "databases and roles of the local cluster, asked before any schema exists"),
    "lib/db.py": (1, "session settings of a connection"),
    "lib/dbt.py": (1, "text of a query that dbt asks for freshness, part of a generated file"),
    "lib/extract.py": (1, "session settings that hold the pads of the keyed hash"),
}
ENVIRONMENT = {
    "resources.py": "dagster-dbt hands its child this process's environment and nothing else",
}
PURE = ("lib", "migrations", "synthetic", "tables")


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def docstrings(path: Path) -> set[int]:
    """Lines on which docstrings begin: they may speak of statements."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.body[0].lineno
        for node in ast.walk(tree(path))
        if isinstance(node, owners) and node.body and isinstance(node.body[0], ast.Expr)
    }


def test_there_are_modules_to_look_at() -> None:
    assert len(MODULES) > 10


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_opens_with_its_charter(path: Path) -> None:
    charter = ast.get_docstring(tree(path))
    assert charter, f"{name(path)} has no docstring. Open it with what is here, what is not, and where that goes."


@pytest.mark.parametrize("path", [p for p in MODULES if name(p).startswith(PURE)], ids=name)
def test_pure_code_does_not_know_dagster(path: Path) -> None:
    known = [m for m in imports(path) if m.split(".")[0].startswith("dagster")]
    assert known == [], f"{name(path)} imports {known}. What needs Dagster goes to defs/ or resources.py."


@pytest.mark.parametrize("path", [p for p in MODULES if name(p).startswith(PURE)], ids=name)
def test_pure_code_does_not_read_settings_or_definitions(path: Path) -> None:
    """Settings come in as values; services and those beside it take the Settings object itself."""
    banned = (
        "penguin_pipelines.defs",
        "penguin_pipelines.definitions",
        "penguin_pipelines.resources",
        "penguin_pipelines.cli",
    )
    known = [m for m in imports(path) if m.startswith(banned) or m == "penguin_pipelines.settings.load_settings"]
    assert known == [], f"{name(path)} imports {known}. Pass what it needs from cli.py, resources.py or defs/."


@pytest.mark.parametrize("path", [p for p in MODULES if name(p).startswith("defs/")], ids=name)
def test_definitions_do_not_import_each_other(path: Path) -> None:
    known = [m for m in imports(path) if m.startswith("penguin_pipelines.defs")]
    assert known == [], f"{name(path)} imports {known}. What two modules of defs/ share goes to lib/."


@pytest.mark.parametrize("path", [p for p in MODULES if name(p) not in {"settings.py", *ENVIRONMENT}], ids=name)
def test_the_environment_is_read_in_one_file(path: Path) -> None:
    read = [
        node.lineno
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"))
        or (isinstance(node, ast.Name) and node.id in ("environ", "getenv"))
    ]
    assert read == [], f"{name(path)} reads the environment on lines {read}. Add a field to settings.py instead."


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_statements_live_in_sql_files(path: Path) -> None:
    spoken = docstrings(path)
    found = [
        node.lineno
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.lineno not in spoken
        and STATEMENT.match(node.value)
    ]
    allowed, _ = STATEMENTS.get(name(path), (0, ""))
    assert len(found) <= allowed, (
        f"{name(path)} holds SQL on lines {found}. Make it a named block of penguin_pipelines/sql/ and call it by name."
    )


def test_the_lists_of_exceptions_name_files_that_exist() -> None:
    assert all((PACKAGE / path).exists() for path in (*STATEMENTS, *ENVIRONMENT))


@pytest.mark.parametrize("path", sorted((PACKAGE / "sql").glob("*.sql")), ids=lambda p: p.name)
def test_every_sql_block_says_what_it_is_for(path: Path) -> None:
    lines = path.read_text().splitlines()
    starts = [n for n, line in enumerate(lines) if line.startswith("-- name: ")]
    assert starts, f"{path.name} has no block; open each with `-- name: <name>` and one line of purpose."
    bare = [lines[n] for n in starts if not re.match(r"-- \S.*[.:]$", lines[n + 1])]
    assert bare == [], f"{path.name}: a sentence of purpose belongs below {bare}."
    names = [lines[n] for n in starts]
    assert len(set(names)) == len(names), f"{path.name} has two blocks of one name."


def _texts() -> list[Path]:
    kinds = {".py", ".sql", ".yml", ".yaml", ".md", ".toml"}
    folders = ("penguin_pipelines", "tests", "docs", "dbt_project/models", "dbt_project/macros", "benchmarks", "deploy")
    found = [
        p
        for folder in folders
        for p in (ROOT / folder).rglob("*")
        if p.suffix in kinds and "__pycache__" not in p.parts
    ]
    return sorted([*found, *ROOT.glob("*.md"), *ROOT.glob("*.yaml"), *ROOT.glob("*.toml")])


def test_nothing_is_left_to_do_in_comments() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    found = [f"{p.relative_to(ROOT)}" for p in _texts() if marks.search(p.read_text())]
    assert found == [], "Do it, or write it down where plans are kept."


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    place = re.compile(r"(?<![\w.~$}/-])/(wor" + r"k|ro" + r"ot)(/|\b)(?!:)")
    found = [f"{p.relative_to(ROOT)}" for p in _texts() if place.search(p.read_text())]
    assert found == [], "Write paths relative to the project."
