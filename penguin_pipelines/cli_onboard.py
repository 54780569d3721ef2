"""`penguin onboard`: thin commands over lib/onboard, mounted by cli.py. Not here: any work."""

from __future__ import annotations

from typing import Annotated

import typer

from penguin_pipelines.errors import PenguinError, UnknownName
from penguin_pipelines.lib import onboard, services, specs
from penguin_pipelines.settings import load_settings
from penguin_pipelines.terminal import JsonOption, out, print_json, print_table, say

onboard_app = typer.Typer(
    help="Make a populated table of a source extractable while the application writes to it.", no_args_is_help=True
)
TableOption = Annotated[str, typer.Option("--table", help="Which table, as source.table.")]


def _where(table: str) -> tuple[str, str, str]:
    source, _, name = table.partition(".")
    if source not in specs.SOURCES or not name:
        if not name:
            raise PenguinError(f"Write the table as source.table, for example oltp.{source}.")
        raise UnknownName.of("source", source, specs.SOURCES)
    return services.endpoints(load_settings()).urls[source], source, name


def _show(steps: list[onboard.Step], as_json: bool) -> None:
    if as_json:
        print_json([vars(s) for s in steps])
    else:
        print_table(["step", "what", "state"], [(s.name, s.what, "done" if s.is_done else "open") for s in steps])


@onboard_app.command()
def plan(table: TableOption, as_json: JsonOption = False) -> None:
    """What the table has and lacks; changes nothing."""
    _show(onboard.plan(*_where(table)), as_json)


@onboard_app.command()
def run(
    table: TableOption,
    lock_timeout: Annotated[str, typer.Option(help="Nobody waits for us longer than this.")] = "500ms",
    patience: Annotated[float, typer.Option(help="Seconds to go on asking for a lock.")] = 600,
    pause: Annotated[float, typer.Option(help="Seconds before asking again; doubled each time, up to 60.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Do what is open. Safe to kill and to repeat."""
    url, source, name = _where(table)
    steps = onboard.run(url, source, name, lock_timeout=lock_timeout, patience=patience, pause=pause, report=say)
    _show(steps, as_json)
    say(f"{table} is tracked; take `mode: xmin` out of its stanza, or add one: penguin onboard stanza --table {table}")


@onboard_app.command()
def stanza(table: TableOption) -> None:
    """Propose a stanza with the most careful class for each column; read it before you use it."""
    out.print(onboard.stanza(*_where(table)), highlight=False, markup=False)
