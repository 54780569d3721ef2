"""`penguin reconcile`: a thin command over lib/reconcile, mounted by cli.py. Not here: any work."""

from __future__ import annotations

from typing import Annotated

import typer

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.lib import services, specs
from penguin_pipelines.settings import load_settings
from penguin_pipelines.terminal import JsonOption, print_json, print_table, progress, say


def reconcile(
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this table, without the marts; may be repeated.")
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Read unequal buckets again and touch what they feed.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Compare every row, not only what is newer than the mark.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare sources with raw and raw with the marts; exits 0 when nothing differs.

    Rows that are in flight or wait to be read or built are no differences.
    """
    from penguin_pipelines.lib import reconcile as work

    settings = load_settings()
    endpoints = services.endpoints(settings)
    tables = [specs.find(name) for name in table] if table else specs.all_tables()
    with progress() as tell:
        results = list(
            work.reconcile(
                endpoints.urls, tables, pseudonym_key=endpoints.pseudonym_key, foreign=settings.foreign, full=full,
                fix=fix, marts=not table, started=lambda n, i, t: tell(n, i, t),
            )
        )  # fmt: skip
    if as_json:
        print_json([vars(r) for r in results])
    else:
        columns = ["subject", "state", "mode", "rows", "compared", "missing", "stale", "ghost", "waiting", "mended"]
        shown = ("subject", "state", "mode", "source_rows", "compared_rows", *columns[5:])
        print_table(columns, [[getattr(r, name) for name in shown] for r in results])
        for r in results:
            if r.details:
                say(f"{r.subject}: {', '.join(f'{k} {v}' for k, v in r.details.items())}.")
    wrong = [r for r in results if r.state in ("different", "failed")]
    if wrong:
        raise PenguinError(
            f"{len(wrong)} of {len(results)} differ or could not be compared: {', '.join(r.subject for r in wrong)}. "
            + ("Read them anew with: penguin ingest --full" if fix else "Mend them with: penguin reconcile --fix")
        )
    say(f"{len(results)} compared, {sum(r.seconds for r in results):.1f} s.")
