"""What the commands say and how: progress and messages on standard error, results on standard output.

Shared by cli.py and cli_queue.py. Not here: what is said.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

QUIET_SECONDS = 5

# Into a file or a pipe nothing is cut to the width of a terminal that is not there.
out = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 1000)
err = Console(stderr=True, soft_wrap=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def say(text: str) -> None:
    """A message to the person, not part of the result."""
    err.print(text, highlight=False, markup=False)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on a terminal, a line every few seconds elsewhere; called with (label, done, total)."""
    if not err.is_terminal:
        said = time.monotonic()

        def plain(label: str, done: int, total: int) -> None:
            nonlocal said
            if time.monotonic() - said > QUIET_SECONDS:
                said = time.monotonic()
                say(f"{label} ({done:,} of {total:,})" if total else label)

        yield plain
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda label, done, total: bar.update(task, description=label, completed=done, total=total)


@contextlib.contextmanager
def working() -> Iterator[Callable[[str], None]]:
    """The latest step on a terminal, a line every few seconds elsewhere; called with what has just been done."""
    if err.is_terminal:
        with err.status("Starting dbt") as status:
            yield status.update
        return
    with progress() as tell:
        yield lambda step: tell(step, 0, 0)


def print_json(value: Any) -> None:
    """A result for programs."""
    typer.echo(json.dumps(value, indent=2, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Iterable[Any]], title: str = "") -> None:
    """A result for people; a missing value is a dash."""
    table = Table(*columns, title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row))
    out.print(table)
