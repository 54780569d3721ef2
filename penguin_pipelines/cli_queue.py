"""`penguin queue`: thin commands over lib/queue. Mounted by cli.py, which also prints errors. Not here: any work."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import psycopg
import typer

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.lib import db, services
from penguin_pipelines.lib.queue import operate
from penguin_pipelines.lib.queue.alerts import open_alerts, recent
from penguin_pipelines.lib.queue.hints import Hints
from penguin_pipelines.lib.queue.model import NewJob
from penguin_pipelines.lib.queue.notify import waiting
from penguin_pipelines.lib.queue.producer import Enqueued, Producer
from penguin_pipelines.settings import load_settings
from penguin_pipelines.terminal import JsonOption, print_json, print_table, say

queue_app = typer.Typer(help="The queue tier: enqueue, work and look after jobs.", no_args_is_help=True)
dead_app = typer.Typer(help="Jobs that used up their attempts.", no_args_is_help=True)
queue_app.add_typer(dead_app, name="dead")

QueueArgument = Annotated[str, typer.Argument(help="Name of the queue.")]
JobArgument = Annotated[UUID, typer.Argument(help="Id of the job.")]


def _urls() -> dict[str, str]:
    return dict(services.endpoints(load_settings()).urls)


@contextlib.contextmanager
def _connected() -> Iterator[psycopg.Connection]:
    with db.connect(_urls()["queue"], "queue", role="pm_worker") as connection:
        yield connection


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
    elif rows:
        print_table(list(rows[0]), (row.values() for row in rows))


def _told(job: Enqueued, as_json: bool, again: str) -> None:
    if as_json:
        typer.echo(json.dumps({"id": str(job.id), "queue": job.queue, "priority": job.priority, "is_new": job.is_new}))
    else:
        typer.echo(job.id)
        if not job.is_new:
            say(again)


@queue_app.command()
def enqueue(
    queue: QueueArgument,
    job_type: Annotated[str, typer.Argument(help="Type of the job, for example email.send.")],
    payload: Annotated[str, typer.Argument(help="JSON object; - reads it from standard input.")] = "{}",
    priority: Annotated[int | None, typer.Option(help="1 (first) to 1000; the queue's default when absent.")] = None,
    delay: Annotated[float, typer.Option(help="Seconds to wait before the job may start.")] = 0,
    expires: Annotated[float | None, typer.Option(help="Seconds after which the job is not wanted any more.")] = None,
    attempts: Annotated[
        int | None, typer.Option(help="How often it is tried; the queue's default when absent.")
    ] = None,
    tenant: Annotated[UUID | None, typer.Option(help="Tenant of the job; none for the platform's own.")] = None,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: while a job with it is open, no other is made.")
    ] = None,
    correlation_id: Annotated[str | None, typer.Option(help="Id that follows one flow through all tiers.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a job and print its id."""
    try:
        content = json.loads(sys.stdin.read() if payload == "-" else payload)
    except ValueError as e:
        raise PenguinError(f"The payload is not JSON ({e}); give an object such as '{{\"message_id\": 7}}'.") from None
    if not isinstance(content, dict):
        raise PenguinError("The payload must be a JSON object such as '{\"message_id\": 7}'.")
    now = datetime.now(UTC)
    urls = _urls()
    with contextlib.closing(Producer(urls["queue"], urls.get("redis"))) as producer:
        made = producer.enqueue(
            NewJob(
                queue,
                job_type,
                content,
                priority,
                attempts,
                now + timedelta(seconds=delay) if delay else None,
                now + timedelta(seconds=expires) if expires is not None else None,
                tenant,
                None,
                correlation_id,
                key,
            )
        )
    _told(made, as_json, "An open job has this key already; this is its id.")


@queue_app.command()
def work(
    queue: Annotated[list[str], typer.Option("--queue", help="Queue to work; may be repeated.")],
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Jobs that run at the same time.")] = 4,
    handlers: Annotated[
        list[str] | None, typer.Option("--handlers", help="Module that registers handlers; may be repeated.")
    ] = None,
    rate: Annotated[int | None, typer.Option("--tenant-rate", min=1, help="Jobs per tenant, queue and minute.")] = None,
    lease: Annotated[
        float, typer.Option(min=1, help="Seconds without a sign of life after which a job restarts.")
    ] = 60,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that running jobs get to finish after SIGTERM.")] = 30,
    with_analytics: Annotated[
        bool, typer.Option("--with-analytics", help="Run analytics jobs here: for an installation without Dagster.")
    ] = False,
    until_empty: Annotated[bool, typer.Option("--until-empty", help="Stop when nothing is due any more.")] = False,
) -> None:
    """Run jobs until SIGTERM. A job type without a handler ends in the dead letters, so load the modules it needs."""
    from penguin_pipelines.lib.queue import etl
    from penguin_pipelines.lib.queue.handlers import load
    from penguin_pipelines.lib.queue.worker import Options, Worker, stopped_by_signals

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("penguin_pipelines").setLevel(logging.INFO)
    modules = ["penguin_pipelines.lib.queue.builtin", *(handlers or ())]
    if with_analytics:
        modules.append("penguin_pipelines.analytics_worker")
    queues = tuple(dict.fromkeys(queue))
    if etl.QUEUE in queues and not set(etl.SCHEDULES) & set(load(modules)):
        # Without a handler they would end as dead letters, while the sensor of Dagster wants them.
        queues = tuple(name for name in queues if name != etl.QUEUE)
        if not queues:
            raise PenguinError(
                f"Queue {etl.QUEUE} is worked by Dagster; without Dagster, give this worker --with-analytics."
            )
        say(f"Queue {etl.QUEUE} is left to Dagster; to work it here use --with-analytics.")
    options = Options(
        queues=queues,
        concurrency=concurrency,
        modules=modules,
        lease=lease,
        sweep=min(10.0, lease / 2),
        grace=grace,
        jobs_per_tenant_minute=rate,
        until_empty=until_empty,
    )
    worker = Worker(_urls(), options)
    say(f"Worker {worker.id} works {', '.join(options.queues)} with {concurrency} processes.")
    with stopped_by_signals(worker):
        worker.run()
    say(f"Worker {worker.id} stopped after {worker.ended:,} attempts.")


@queue_app.command()
def stats(
    queue: Annotated[str | None, typer.Argument(help="Only this queue.")] = None, as_json: JsonOption = False
) -> None:
    """Each queue by lane: what waits, runs and failed, and its open alerts."""
    urls = _urls()
    with db.connect(urls["queue"], "queue", role="pm_worker") as connection:
        rows = operate.stats(connection, queue)
        told: dict[str | None, str] = {}
        for alert in open_alerts(connection):
            told[alert.queue] = ", ".join(filter(None, (told.get(alert.queue), f"{alert.rule} ({alert.level})")))
    with contextlib.closing(Hints(urls.get("redis"))) as hints:
        _show(
            [row | {"hints": hints.depth(row["queue"]), "alerts": told.get(row["queue"], "")} for row in rows], as_json
        )
    if not as_json and None in told:
        say(f"All queues: {told[None]}")


@queue_app.command()
def alerts(
    closed: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Alerts that are open: what, since when, and whether people were told."""
    with _connected() as connection:
        rows = recent(connection, closed=closed, limit=limit)
        undelivered = waiting(connection)
    if as_json:
        print_json({"alerts": rows, "undelivered": undelivered})
        return
    if not rows:
        say("No alert is open.")
    shown = ["level", "rule", "queue", "opened", "told", *(["closed"] if closed else []), "message"]
    print_table(shown, ([_short(row["last_notified" if c == "told" else c]) for c in shown] for row in rows))
    for channel in undelivered:
        say(
            f"{channel['channel']}: {channel['waiting']} wait, {channel['given_up']} were given up, "
            f"since {_short(channel['since'])}: {channel['last_error'] or 'not sent yet'}"
        )


def _short(value: Any) -> Any:
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else value


@queue_app.command()
def pause(queue: QueueArgument) -> None:
    """Claim nothing more from a queue; running jobs go on."""
    with _connected() as connection:
        operate.set_active(connection, queue, False)
    say(f"Queue {queue} is paused.")


@queue_app.command()
def resume(queue: QueueArgument) -> None:
    """Work a paused queue again."""
    with _connected() as connection:
        operate.set_active(connection, queue, True)
    say(f"Queue {queue} is active.")


@queue_app.command()
def retry(job: JobArgument, as_json: JsonOption = False) -> None:
    """Run a waiting job now, or replay a failed one."""
    with _connected() as connection:
        made = operate.retry(connection, job)
    _announce(made)
    _told(made, as_json, "It had been replayed before; this is the id of that job.")


@queue_app.command()
def cancel(job: JobArgument) -> None:
    """Take back a job that has not begun."""
    with _connected() as connection:
        operate.cancel(connection, job)
    say(f"Job {job} is cancelled.")


@dead_app.command("list")
def dead_list(
    queue: Annotated[str | None, typer.Option("--queue", help="Only this queue.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that were replayed or resolved.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Dead letters, newest first."""
    with _connected() as connection:
        _show(operate.dead_letters(connection, queue, resolved=everything, limit=limit), as_json)


@dead_app.command("replay")
def dead_replay(
    letter: Annotated[UUID, typer.Argument(help="Id of the dead letter, or of its job.")], as_json: JsonOption = False
) -> None:
    """Make a new job of a dead letter and print its id; the same letter gives the same job again."""
    with _connected() as connection:
        made = operate.replay(connection, letter)
    _announce(made)
    _told(made, as_json, "It had been replayed before; this is the id of that job.")


def _announce(job: Enqueued) -> None:
    with contextlib.closing(Hints(_urls().get("redis"))) as hints:
        hints.push([job.hint])
