"""The `penguin` command: thin. It reads settings, calls lib/, migrations/ and synthetic/, and prints.

Every command exits non-zero with one sentence on failure and prints no secret. Not here: any work.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer

from penguin_pipelines.cli_onboard import onboard_app
from penguin_pipelines.cli_queue import queue_app
from penguin_pipelines.cli_reconcile import reconcile
from penguin_pipelines.errors import PenguinError, UnknownName, mask
from penguin_pipelines.lib import services, specs
from penguin_pipelines.lib.services import Endpoints
from penguin_pipelines.settings import TIERS, Settings, load_settings
from penguin_pipelines.terminal import JsonOption, err, out, print_json, print_table, progress, say, working

app = typer.Typer(
    help="The PenguinMails data platform.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
migrate_app = typer.Typer(help="Schema of the four tiers, in dependency order.", no_args_is_help=True)
app.add_typer(migrate_app, name="migrate")
app.add_typer(onboard_app, name="onboard")
app.add_typer(queue_app, name="queue")
app.command()(reconcile)

TierOption = Annotated[str | None, typer.Option("--tier", help=f"Only this tier: {', '.join(TIERS)}.")]


def main() -> None:
    """Entry of the console script: one sentence instead of a traceback for every failure that we know."""
    try:
        app()
    except PenguinError as e:
        err.print(f"[bold red]Error:[/] {mask(str(e))}", highlight=False)
        raise SystemExit(1) from None
    except psycopg.Error as e:
        said = (e.diag.message_primary or str(e)).strip()
        err.print(
            f"[bold red]Error:[/] The database refused: {mask(said)}. `penguin doctor` checks it.", highlight=False
        )
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        err.print("Interrupted.")
        raise SystemExit(130) from None


def _ready() -> tuple[Settings, Endpoints]:
    settings = load_settings()
    return settings, services.endpoints(settings)


def _tiers(tier: str | None) -> tuple[str, ...]:
    if tier is None:
        foreign = load_settings().foreign
        return tuple(name for name in TIERS if name not in foreign)
    if tier not in TIERS:
        raise UnknownName.of("tier", tier, TIERS)
    return (tier,)


@app.command()
def up() -> None:
    """Start the local services that are needed; does nothing for what already runs or has a URL."""
    services.up(load_settings(), say)
    say("The services are up.")


@app.command()
def down() -> None:
    """Stop the local services that `penguin up` started."""
    services.down(load_settings(), say)


@migrate_app.command("status")
def migrate_status(tier: TierOption = None, as_json: JsonOption = False) -> None:
    """Revision of each tier and the one this release brings."""
    from penguin_pipelines.lib import db
    from penguin_pipelines.migrations import runner

    _, endpoints = _ready()
    rows = []
    for name in _tiers(tier):
        with db.connect(endpoints.urls[name], name) as connection:
            rows.append({"tier": name, "revision": runner.current(connection), "head": runner.head(name)})
    if as_json:
        print_json(rows)
    else:
        print_table(["tier", "revision", "head"], [tuple(r.values()) for r in rows])


@migrate_app.command("plan")
def migrate_plan(tier: TierOption = None) -> None:
    """What `up` would apply, and why."""
    from penguin_pipelines.migrations import runner

    _, endpoints = _ready()
    waiting = [(r.tier, r.name, r.why) for name in _tiers(tier) for r in runner.plan(endpoints.urls[name], name)]
    if waiting:
        print_table(["tier", "revision", "why"], waiting)
    else:
        say("Every tier is at its newest revision.")


@migrate_app.command("up")
def migrate_up(
    tier: TierOption = None, to: Annotated[str, typer.Option(help="Revision to stop at; needs --tier.")] = "head"
) -> None:
    """Bring tiers up, sources first."""
    from penguin_pipelines.migrations import runner

    _needs_tier(tier, to, "head")
    _, endpoints = _ready()
    for name in _tiers(tier):
        runner.up(endpoints.urls[name], name, to=to, report=say)


@migrate_app.command("down")
def migrate_down(
    tier: TierOption = None,
    to: Annotated[str, typer.Option(help="Revision to go back to; needs --tier.")] = "base",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; data in dropped tables are lost.")] = False,
) -> None:
    """Take tiers back, warehouse first. Roles stay."""
    from penguin_pipelines.migrations import runner

    _needs_tier(tier, to, "base")
    settings, endpoints = _ready()
    if not yes and not (sys.stdin.isatty() and typer.confirm(f"Drop tables and their data in {settings.env}?")):
        raise PenguinError(
            "Nothing was done: `penguin migrate down` drops tables with their data; repeat it with --yes."
        )
    for name in reversed(_tiers(tier)):
        runner.down(endpoints.urls[name], name, to=to, report=say)


@migrate_app.command("verify")
def migrate_verify(tier: TierOption = None) -> None:
    """Compare the live catalog with the one that the migrations make."""
    from penguin_pipelines.migrations import runner

    _, endpoints = _ready()
    different = {name: found for name in _tiers(tier) if (found := runner.verify(endpoints.urls[name], name))}
    for name, lines in different.items():
        for line in lines:
            out.print(f"{name}: {line}", highlight=False, markup=False)
    if different:
        raise PenguinError(f"The schema of {', '.join(different)} differs from its migrations; see the lines above.")
    say("Every table, key, policy and grant is as the migrations make it.")


@migrate_app.command("snapshot", hidden=True)
def migrate_snapshot() -> None:
    """Keep the catalog that the migrations make, for `verify` and the tests."""
    from penguin_pipelines.lib import db
    from penguin_pipelines.migrations import runner

    _, endpoints = _ready()
    for name in TIERS:
        with db.connect(endpoints.urls[name], name) as connection:
            runner.require_head(connection, name)
            runner.snapshot_path(name).write_text("\n".join(runner.catalog(connection)) + "\n")


def _needs_tier(tier: str | None, to: str, default: str) -> None:
    if to != default and tier is None:
        raise PenguinError("Revisions are counted per tier; say which with --tier.")


@app.command()
def generate(
    tenants: Annotated[int, typer.Option(help="Number of tenants.")] = 3,
    messages: Annotated[int | None, typer.Option(help="Outbound messages; 20000, or 500 with --append.")] = None,
    days: Annotated[int, typer.Option(help="Days of history.")] = 60,
    seed: Annotated[int, typer.Option(help="The same seed and --as-of give the same rows.")] = 7,
    append: Annotated[
        bool, typer.Option("--append", help="Continue the history: new, late, changed and deleted rows.")
    ] = False,
    as_of: Annotated[datetime | None, typer.Option(help="End of the history, UTC; now by default.")] = None,
) -> None:
    """Fill OLTP, Content and Queue with synthetic but realistic data."""
    from penguin_pipelines.synthetic import Options
    from penguin_pipelines.synthetic import generate as make

    settings, endpoints = _ready()
    if settings.env == "production":
        raise PenguinError("Synthetic data do not belong in production; PENGUIN_ENV says that this is production.")
    if settings.foreign:
        raise PenguinError(
            f"Synthetic data do not belong in a foreign source; PENGUIN_FOREIGN_SOURCES is {settings.foreign_sources}."
        )
    wanted = messages if messages is not None else 500 if append else 20_000
    present = as_of.replace(tzinfo=UTC) if as_of else None
    options = Options(tenants=tenants, messages=wanted, days=days, seed=seed, append=append, as_of=present)
    with progress() as tell:
        summary = make(endpoints.urls, options, tell)
    for table, rows in summary.rows.items():
        out.print(f"{table:<42} {rows:>12,}", highlight=False)
    say(f"Wrote {sum(summary.rows.values()):,} rows in {summary.seconds:.1f} s.")


@app.command()
def ingest(
    table: Annotated[list[str] | None, typer.Option("--table", help="Only this table; may be repeated.")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read everything again and find what was missed or deleted.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run extraction once, outside the UI."""
    settings, endpoints = _ready()
    tables = [specs.find(name) for name in table] if table else specs.all_tables()
    _ingest(settings, endpoints, tables, full=full, as_json=as_json)


def _ingest(
    settings: Settings, endpoints: Endpoints, tables: Any, *, full: bool = False, as_json: bool = False
) -> bool:
    """Loads the tables, prints what changed, fails with every sentence at the end; True when anything was written."""
    from penguin_pipelines.lib.baseline import Limits
    from penguin_pipelines.lib.ingest import Failed
    from penguin_pipelines.lib.ingest import ingest as load

    begun = time.monotonic()
    with progress() as tell:
        results = list(
            load(
                endpoints.urls,
                tables,
                pseudonym_key=endpoints.pseudonym_key,
                full=full,
                foreign=settings.foreign,
                limits=Limits.of(settings),
                started=lambda n, i, t: tell(n, i, t),
                progressed=lambda p: tell(str(p), p.rows, p.expected),
            )
        )
    failed = [r for r in results if isinstance(r, Failed)]
    loaded = [r for r in results if not isinstance(r, Failed)]
    changed = [r for r in loaded if r.changed]
    if as_json:
        print_json([vars(r) for r in loaded] + [{"table": r.table, "error": str(r.error)} for r in failed])
    elif changed:
        columns = ["table", "mode", "delivered", "written", "deleted", "slices", "rows"]
        print_table(
            columns, [(r.table, r.mode, r.delivered, r.written, r.deleted, r.slices, r.row_count) for r in changed]
        )
    for r in loaded:
        if r.unlisted:
            say(f"{r.table} has columns that its stanza does not list: {', '.join(r.unlisted)}.")
    say(f"{len(changed)} of {len(results)} tables changed, {time.monotonic() - begun:.1f} s.")
    if failed:
        raise PenguinError(" ".join(f"{f.table}: {f.error}" for f in failed))
    return bool(changed)


@app.command()
def build(
    select: Annotated[
        str | None, typer.Option(help="dbt selection; touched slices are kept for the next whole build.")
    ] = None,
    full_refresh: Annotated[
        bool, typer.Option("--full-refresh", help="Rebuild everything; readers keep the old figures meanwhile.")
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Only show which figures changed models, or those of --select, would move.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --diff: print JSON for programs.")] = False,
) -> None:
    """Run dbt once over what was touched, outside the UI."""
    settings, endpoints = _ready()
    if diff:
        _show_diff(settings, endpoints, select, as_json=as_json)
        return
    _build(settings, endpoints, select=select, full_refresh=full_refresh)


def _show_diff(settings: Settings, endpoints: Endpoints, select: str | None, *, as_json: bool) -> None:
    """Prints what a dry run found; writes nothing."""
    from dataclasses import asdict

    from penguin_pipelines.lib.build_diff import diff

    with working() as report:
        found = diff(endpoints.urls["olap"], home=settings.home, select=select, report=report)
    if as_json:
        print_json(asdict(found))
        return
    moved = [(t.name, t.rows_before, t.rows_after, t.added, t.removed, t.changed) for t in found.tables]
    if moved:
        print_table(["mart", "rows before", "rows after", "added", "removed", "changed"], moved)
    for table in found.tables:
        columns = [(c.name, c.rows, c.before, c.after) for c in table.columns]
        print_table(["column", "rows", "sum before", "sum after"], columns, f"\n{table.name}")
        movers = [(c.name, *m["key"].values(), m["before"], m["after"]) for c in table.columns for m in c.movers]
        if movers:
            print_table(["column", *table.columns[0].movers[0]["key"], "before", "after"], movers)
    about = f"{len(found.changed_models)} models changed, {len(found.compared)} marts compared"
    say(f"{about}: {len(moved)} would move." if found.changed_models else "No model changed since the last build.")
    for what, names in (("new", found.new), ("gone", found.gone)):
        if names:
            say(f"{what.capitalize()}: {', '.join(names)}.")
    if found.slices_waiting and found.changed_models:
        say(f"{found.slices_waiting} changes of the sources wait to be built; some differences may be theirs.")


def _build(settings: Settings, endpoints: Endpoints, *, select: str | None = None, full_refresh: bool = False) -> None:
    from penguin_pipelines.lib import build as builds

    with working() as report:
        result = builds.run(
            endpoints.urls["olap"], home=settings.home, select=select, full_refresh=full_refresh, report=report
        )
    if result.started_dbt:
        done = f"{result.models} models, {result.tests} tests, {result.claimed} slices"
        say(f"Built {done} in {result.seconds:.1f} s.")
    else:
        say("Nothing was touched; dbt was not started.")


@app.command()
def run(
    via_dagster: Annotated[
        bool, typer.Option("--via-dagster", help="Execute the Dagster job, so that the UI shows the run.")
    ] = False,
) -> None:
    """Ingest, build and check, as the Dagster job does."""
    settings, endpoints = _ready()
    if via_dagster:
        _run_job(settings, endpoints)
        return
    _ingest(settings, endpoints, specs.all_tables())
    _build(settings, endpoints)


def _run_job(settings: Settings, endpoints: Endpoints, job: str = "warehouse") -> None:
    from penguin_pipelines.lib import dbt, orchestrator

    dbt.ensure_manifest()
    orchestrator.execute_job(settings, endpoints.urls, job, say)


@app.command()
def status(
    as_json: JsonOption = False,
    show_urls: Annotated[bool, typer.Option("--show-urls", help="Show passwords in URLs.")] = False,
) -> None:
    """Tiers, watermarks, marts and queues as they are now."""
    from penguin_pipelines.lib.status import collect

    settings, endpoints = _ready()
    report = collect(
        endpoints.urls, pseudonym_key=endpoints.pseudonym_key, foreign=settings.foreign, show_urls=show_urls
    )
    if as_json:
        print_json(report)
        return
    tiers = report["tiers"].items()
    print_table(
        ["tier", "url", "revision", "health"],
        [(n, t["url"], t.get("revision"), t["health"]) for n, t in tiers],
        "Tiers",
    )
    columns = ["table", "watermark", "rows", "lag s", "state", "held back"]
    keys = ("watermark", "rows", "lag_seconds", "state", "held_back")
    print_table(columns, [(n, *(t.get(k) for k in keys)) for n, t in report["sources"].items()], "\nSources")
    print_table(
        ["mart", "rows", "data as of"], [(n, m["rows"], m["data_as_of"]) for n, m in report["marts"].items()], "\nMarts"
    )
    columns = ["queue", "waiting", "delayed", "running", "oldest s", "dead letters"]
    keys = ("waiting", "delayed", "running", "oldest_wait_seconds", "dead_letters")
    print_table(columns, [(n, *(q[k] for k in keys)) for n, q in report["queues"].items()], "\nQueues")


@app.command()
def sql(
    query: Annotated[
        str | None, typer.Argument(help="One statement; without it psql opens, or standard input is read.")
    ] = None,
    role: Annotated[str, typer.Option(help="Who asks: analyst, staff or tenant.")] = "analyst",
    tenant: Annotated[str | None, typer.Option(help="Ask as this tenant; its views are in schema tenant.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Query the warehouse as an analyst or a tenant would."""
    from penguin_pipelines.lib import query as queries

    settings, endpoints = _ready()
    if query is None and sys.stdin.isatty():
        raise SystemExit(queries.shell(settings, endpoints.urls["olap"], role, tenant))
    answer = queries.ask(endpoints.urls["olap"], query or sys.stdin.read(), reader=role, tenant=tenant)
    if as_json:
        print_json([dict(zip(answer.columns, row, strict=True)) for row in answer.rows])
    else:
        print_table(answer.columns, answer.rows)


@app.command()
def explain(
    fact: Annotated[
        str | None, typer.Argument(help="Fact table, for example campaign_analytics; without it all are listed.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="The row: tenant_id=...,campaign_id=...,activity_date=...; without it the rows written last are "
            "listed, each with its key."
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Moment to compare with, for example 2026-03-01T08:00; a day ago by default.")
    ] = None,
    limit: Annotated[int, typer.Option(help="How many single events to list.", min=0)] = 20,
    as_json: JsonOption = False,
) -> None:
    """Why a figure is what it is: the events and corrections behind one fact row since a moment."""
    from penguin_pipelines.lib import explain as explains

    if fact is None:
        rows = [(name, ",".join(f"{column}=..." for column in columns)) for name, columns in explains.facts().items()]
        print_json(dict(rows)) if as_json else print_table(["fact", "key"], rows)
        return
    _, endpoints = _ready()
    if key is None:
        found_keys = explains.latest(endpoints.urls["olap"], fact)
        if as_json:
            print_json([{"updated": updated, "key": named} for updated, named in found_keys])
        else:
            print_table(["written", "key"], found_keys, f"{fact}: the rows written last; explain one with --key")
        return
    named = explains.parse_key(fact, key)
    found = explains.explain(endpoints.urls["olap"], fact, named, since=_moment(since), limit=limit)
    if as_json:
        print_json(vars(found))
        return
    if found.counters:
        counted = [(n, c["before"], c["after"], c["delta"]) for n, c in found.counters.items()]
        print_table(["counter", "before", "after", "delta"], counted, f"{fact} since {found.since:%Y-%m-%d %H:%M} UTC")
    for title, rows in (
        ("What arrived since", found.causes),
        ("One by one", found.events),
        ("All events behind it", found.all_events),
        ("Corrections of closed windows", found.corrections),
    ):
        if rows:
            print_table(list(rows[0]), [row.values() for row in rows], f"\n{title}")
    if not found.causes:
        say("Nothing of this row has arrived since.")
    if not found.is_exact:
        say("Some of it was rewritten or withdrawn since; `before` tells what is not kept by its times.")
    if found.slices_waiting:
        say(f"{found.slices_waiting} changes of this tenant wait to be built: penguin build")
    if found.unexplained:
        names = ", ".join(found.unexplained)
        say(f"The mart holds something else for {names}; see docs/runbooks/figures-look-wrong.md.")


def _moment(text: str | None) -> datetime | None:
    """A time stamp of the command line; without a zone it is UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise PenguinError(f"{text!r} is no time stamp; write it like 2026-03-01T08:00.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Check configuration, versions, permissions and connections; one line and a remedy for each fault."""
    from penguin_pipelines.lib.doctor import examine

    findings = list(examine(load_settings()))
    if as_json:
        print_json([vars(f) for f in findings])
    else:
        marks = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "fault": "[red]fault[/]"}
        for f in findings:
            remedy = f" Remedy: {f.remedy}" if f.remedy else ""
            out.print(
                f"{marks[f.level]:<18} {f.subject}: {mask(f.text)}{'.' if remedy else ''}{remedy}", highlight=False
            )
    if any(f.level == "fault" for f in findings):
        raise SystemExit(1)


@app.command()
def demo(
    no_serve: Annotated[
        bool, typer.Option("--no-serve", help="Stop after the data are built; the services stay up.")
    ] = False,
) -> None:
    """Services, schema, data, marts, then the Dagster UI: everything on a fresh machine with one command."""
    from penguin_pipelines.lib import db, orchestrator
    from penguin_pipelines.lib.sql import blocks
    from penguin_pipelines.migrations import runner

    settings = load_settings()
    if settings.env != "local":
        raise PenguinError(f"The demo writes synthetic data and is for PENGUIN_ENV=local only, not {settings.env}.")
    endpoints = services.up(settings, say)
    for tier in TIERS:
        runner.up(endpoints.urls[tier], tier, report=say)
    with db.connect(endpoints.urls["oltp"], "oltp") as connection:
        row = connection.execute(blocks("status")["tenants"]).fetchone()
    if row == (0,):
        generate()
    for job in ("warehouse", "unusual_results", "rules"):
        say(f"Running the Dagster job `{job}`.")
        _run_job(settings, endpoints, job)
    _show_demo(endpoints)
    if not no_serve:
        say("Starting the Dagster UI; this takes half a minute.")
        orchestrator.serve(settings, endpoints.urls, _show_ui)


def _show_demo(endpoints: Endpoints) -> None:
    from penguin_pipelines.lib import query as queries
    from penguin_pipelines.lib.sql import blocks

    answer = queries.ask(endpoints.urls["olap"], blocks("status")["sample"])
    print_table(answer.columns, answer.rows, "\nThe busiest campaigns (marts.campaign_performance_summary)")
    tenant = queries.ask(endpoints.urls["olap"], blocks("status")["a_tenant"]).rows[0][0]
    out.print(f"\nAsk as an analyst   {endpoints.analyst_url or 'with your own login'}", highlight=False)
    out.print(
        '                    penguin sql "select * from marts.campaign_performance_summary limit 3"', highlight=False
    )
    out.print(
        f'Ask as a tenant     penguin sql --tenant {tenant} "select * from tenant.campaign_performance limit 3"',
        highlight=False,
    )


def _show_ui(url: str, log: Path) -> None:
    out.print(f"Dagster UI          {url}", highlight=False)
    out.print(f"Its log             {log}", highlight=False, soft_wrap=True)
    out.print("Ctrl-C stops the UI; `penguin down` stops the services.", highlight=False)


@app.command()
def serve() -> None:
    """Serve the Dagster UI with its daemon, schedules and sensors until interrupted."""
    from penguin_pipelines.lib import dbt, orchestrator

    settings, endpoints = _ready()
    dbt.ensure_manifest()
    orchestrator.serve(settings, endpoints.urls, _show_ui)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def dagster(context: typer.Context) -> None:
    """Run any dagster command on this platform's instance, for example: penguin dagster job list."""
    from penguin_pipelines.lib import orchestrator

    settings, endpoints = _ready()
    raise SystemExit(orchestrator.call(settings, endpoints.urls, context.args))


@app.command()
def manifest() -> None:
    """Parse the dbt project, so that Dagster can load it; does nothing when it is up to date."""
    from penguin_pipelines.lib import dbt

    say(f"The manifest is {dbt.ensure_manifest()}.")


@app.command(hidden=True)
def render(check: Annotated[bool, typer.Option("--check", help="Only tell what is stale.")] = False) -> None:
    """Write the files that derive from others: .env.example and the dbt sources."""
    from penguin_pipelines.lib.rendered import PROJECT, files

    stale = {path: text for path, text in files().items() if not path.exists() or path.read_text() != text}
    names = ", ".join(str(path.relative_to(PROJECT)) for path in stale)
    if stale and check:
        raise PenguinError(f"Stale: {names}. Write them anew with: make generate")
    for path, text in stale.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    say(f"Wrote {names}." if stale else "Everything derived is up to date.")


if __name__ == "__main__":
    main()
