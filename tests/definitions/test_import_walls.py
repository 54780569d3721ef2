"""Who may import what: modules of defs/ never each other, pure code never Dagster."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "penguin_pipelines"
DEFS = sorted((PACKAGE / "defs").glob("*.py"))
PURE = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.parent.name != "defs"
    and path.name not in ("resources.py", "definitions.py", "storage.py", "run_launcher.py")
)


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {"." * node.level + (node.module or "")}
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", DEFS, ids=lambda p: p.name)
def test_a_module_of_defs_imports_no_other(path: Path) -> None:
    others = {name for name in imported(path) if name.startswith(("penguin_pipelines.defs", "."))}
    assert not others, f"{path.name} imports {others}; what two modules share goes to lib/ or resources.py"


@pytest.mark.parametrize("path", PURE, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_pure_code_does_not_know_dagster(path: Path) -> None:
    known = {name for name in imported(path) if name.split(".")[0].startswith("dagster")}
    assert not known, f"{path.name} imports {known}; that belongs to defs/"


def test_defs_is_flat() -> None:
    folders = [p.name for p in (PACKAGE / "defs").iterdir() if p.is_dir() and p.name != "__pycache__"]
    assert not folders, f"{folders} in defs/; every module there is a flat file named for what it defines"


def test_a_module_is_all_loose_or_one_function() -> None:
    """Dagster silently loses loose definitions beside a @dg.definitions function."""
    loose = ("asset", "multi_asset", "asset_check", "sensor", "schedule", "job", "op", "dbt_assets")
    for path in DEFS:
        named = [
            ast.unparse(d.func if isinstance(d, ast.Call) else d).removeprefix("dg.")
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.FunctionDef)
            for d in node.decorator_list
        ]
        assert named.count("definitions") <= 1, f"{path.name} has several @dg.definitions"
        assert "definitions" not in named or not set(named) & set(loose), f"{path.name} mixes both forms"
