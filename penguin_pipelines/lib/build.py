"""Brings the marts up to date: claims what was touched, runs dbt over it, and forgets it once everything is built.

Nothing touched, nothing built: then dbt does not even start and nothing is written. Not here: the models
(dbt_project/), the project's files and manifest (lib/dbt.py), writing slices for changed rows (lib/load.py).
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from penguin_pipelines.errors import BuildFailed, Busy, mask
from penguin_pipelines.lib import db, dbt
from penguin_pipelines.lib.sql import blocks, compose
from penguin_pipelines.settings import child_environment

BUILD_LOCK = 7_201_118
APPLICATION = "penguin build"
# A view that stands needs no build; its tests still run, on the rows behind it.
HOLDS_ROWS = (
    *(f"config.materialized:{kind}" for kind in ("incremental", "table", "materialized_view")),
    "resource_type:test",
)
TOUCHED = ("int_touched_messages", "int_touched_hours")
"""Models that say what the others have to compute, and note where it was until then: no part is built without them."""
# A log file would hold every query and cost a tenth of the build; what ran is in the folder `run` of the target.
_SAYING = ("--log-level-file", "none")
Report = Callable[[str], None]


@dataclass(frozen=True)
class BuildResult:
    """What a build did."""

    started_dbt: bool
    models: int = 0
    tests: int = 0
    seconds: float = 0.0
    claimed: int = 0


@dataclass(frozen=True)
class Proof:
    """How a unit test ended: what differs in `message` where it did not pass, and seconds."""

    passed: bool
    message: str
    seconds: float


@dataclass(frozen=True)
class Claim:
    """What a build has taken on, and how dbt is to be called for it."""

    count: int
    due: bool
    """False when nothing waits: then dbt is not to be started."""
    views_stand: bool
    """Whether every view is there and says what the project says, so that only what holds rows is to be built."""
    environment: Mapping[str, str]
    target: Path


@contextmanager
def claimed(
    url: str,
    *,
    home: Path,
    part: bool = False,
    full_refresh: bool = False,
    recompute_days: int = 0,
    as_of: datetime | None = None,
    threads: int = 4,
    wait_seconds: float = 60,
) -> Iterator[Claim]:
    """Holds the build lock and what waits to be built; leaving without an exception marks exactly that as built.

    A `part` of the models claims nothing and so consumes nothing. `full_refresh` touches every slice and
    `recompute_days` those of the last days; both go the same way, so readers see the old figures until the new ones
    commit. `as_of` is the one clock of the build; `home` is the folder for dbt's working files.
    """
    clock = as_of or datetime.now(UTC)
    with building(url, wait_seconds) as connection:
        if full_refresh:
            connection.execute(blocks("build")["touch_all"])
        _touch_by_rules(connection)
        _touch_by_time(connection, clock, recompute_days)
        build = uuid.uuid4()
        count = 0 if part else connection.execute(blocks("build")["claim"], {"build": build}).rowcount
        due = bool(count or part or _is_new_project(connection))
        target = target_folder(home, url)
        target.mkdir(parents=True, exist_ok=True)
        views_stand = not full_refresh and _views_stand(connection, target)
        yield Claim(count, due, views_stand, environment(url, clock, None if part else build, threads), target)
        if due and not part:
            with connection.transaction():
                connection.execute(blocks("build")["consume"], {"build": build})
                connection.execute(blocks("build")["forget_touched"])
                _remember_project(connection, clock, target)


@contextmanager
def checking(url: str, *, home: Path, threads: int = 4, wait_seconds: float = 60) -> Iterator[Claim]:
    """Holds the build lock for checks that are asked for by themselves. They look at every row, not at what was
    touched, and with the clock of the last build: what time has changed since is not built yet."""
    with building(url, wait_seconds) as connection:
        clock = _value(connection, "built_clock") if _value(connection, "has_state") else None
        if clock is None:
            raise BuildFailed("Nothing has been built that could be checked; run: penguin build")
        target = target_folder(home, url)
        target.mkdir(parents=True, exist_ok=True)
        yield Claim(0, True, True, environment(url, clock, None, threads, ["-c penguin.check_everything=on"]), target)


def run(
    url: str,
    *,
    home: Path,
    select: str | None = None,
    full_refresh: bool = False,
    recompute_days: int = 0,
    as_of: datetime | None = None,
    threads: int = 4,
    wait_seconds: float = 60,
    unit_tests: bool = False,
    report: Report = lambda _: None,
) -> BuildResult:
    """Builds what was touched. With `select` only that part is built and nothing counts as done."""
    begun = time.monotonic()
    part = select is not None
    with claimed(
        url,
        home=home,
        part=part,
        full_refresh=full_refresh,
        recompute_days=recompute_days,
        as_of=as_of,
        threads=threads,
        wait_seconds=wait_seconds,
    ) as claim:
        if not claim.due:
            return BuildResult(started_dbt=False, seconds=time.monotonic() - begun)
        _dbt_build(claim, select, unit_tests, report)
        models, tests = _counts(claim.target)
    return BuildResult(True, models, tests, time.monotonic() - begun, claim.count)


def prove(
    url: str, *, home: Path, names: Sequence[str] | None = None, report: Report = lambda _: None
) -> dict[str, Proof]:
    """Runs unit tests, all or those named. They prove the SQL, not the data: nothing is claimed, nothing written."""
    target = target_folder(home, url).with_suffix(".unit")
    target.mkdir(parents=True, exist_ok=True)
    wanted = ["test_type:unit"] if names is None else [f"unit_test:{name}" for name in names]
    # Under another name than a build's: the next build ends what bears its own.
    own = {"PENGUIN_DBT_APPLICATION": "penguin unit tests"}
    variables = {**environment(url, datetime.now(UTC), None, 4), **own}
    try:
        run_dbt(["test", "--select", *wanted], variables, target, report)
    except BuildFailed:
        if not _results(target / "run_results.json"):
            raise
    return {
        result["unique_id"].rpartition(".")[2]: Proof(
            result["status"] == "pass", (result.get("message") or "").strip(), result["execution_time"]
        )
        for result in _results(target / "run_results.json")
    }


@contextmanager
def building(url: str, wait_seconds: float) -> Iterator[psycopg.Connection]:
    """A connection that holds the build lock of the warehouse, with nothing of a dead build or dry run beside it."""
    connection = db.open_connection(url, "olap", autocommit=True)
    try:
        deadline = time.monotonic() + wait_seconds
        while not _value(connection, "try_lock", lock=BUILD_LOCK):
            if time.monotonic() > deadline:
                raise Busy(
                    f"Another build of this warehouse has been running for over {wait_seconds:g} s; "
                    "wait for it and try again."
                )
            time.sleep(0.2)
        _end_orphans(connection)
        connection.execute("set role pm_etl")
        connection.execute(blocks("build")["drop_leftovers"])
        drop_scratch(connection)
        yield connection
    finally:
        connection.close()


def _end_orphans(connection: psycopg.Connection) -> None:
    connection.execute(blocks("build")["end_orphans"], {"application": APPLICATION})
    for _ in range(50):
        if not _value(connection, "count_orphans", application=APPLICATION):
            return
        time.sleep(0.1)


def drop_scratch(connection: psycopg.Connection) -> None:
    """Removes the schemas of dry runs."""
    for (name,) in connection.execute(blocks("build")["scratch_schemas"]).fetchall():
        connection.execute(compose("build", "drop_scratch", schema=sql.Identifier(name)))


def _value(connection: psycopg.Connection, block: str, **values: Any) -> Any:
    row = connection.execute(blocks("build")[block], values or None).fetchone()
    return row[0] if row else None


def _touch_by_time(connection: psycopg.Connection, clock: datetime, recompute_days: int) -> None:
    """Writes the slices that are due by the clock alone; none are, most of the time."""
    if not _value(connection, "is_built"):
        return
    rules = dbt.variables()
    day = clock.astimezone(UTC).date()
    values = {
        "as_of": clock,
        "silence_hours": rules["silence_hours"],
        "window_close_days": rules["window_close_days"],
        "today": day,
        "final_day": day - timedelta(days=rules["final_after_days"]),
        "online_from": _months_before(day, rules["fact_months"]),
    }
    for block in ("touch_silent_messages", "touch_final_days", "touch_windows", "touch_infrastructure_day"):
        connection.execute(blocks("build")[block], values)
    if _value(connection, "has_calendar"):
        connection.execute(blocks("build")["touch_new_day"], {"day": day})
    if recompute_days:
        connection.execute(blocks("build")["touch_days"], {"from_day": day - timedelta(days=recompute_days)})


def _touch_by_rules(connection: psycopg.Connection) -> None:
    """Touches everything when the rules are not those of the last build: history is decided anew, once."""
    if not _value(connection, "is_built") or not _value(connection, "has_state"):
        return
    if _value(connection, "built_rules") != dbt.rules():
        connection.execute(blocks("build")["touch_all_for_rules"])


def _months_before(day: date, months: int) -> date:
    """First day of the month so many months earlier."""
    years, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(years, month + 1, 1)


def _is_new_project(connection: psycopg.Connection) -> bool:
    """True when the models changed since the last build: views must follow although no row was touched."""
    if not _value(connection, "is_built"):
        return False
    return not _value(connection, "has_state") or _value(connection, "built_fingerprint") != dbt.fingerprint()


def _views_stand(connection: psycopg.Connection, target: Path) -> bool:
    """Whether the last whole build was of this project and nobody has dropped a view since."""
    if not _value(connection, "has_state") or _value(connection, "built_fingerprint") != dbt.fingerprint():
        return False
    manifest = target / "manifest.json"
    return manifest.exists() and not _value(connection, "missing_views", views=dbt.views(manifest))


def _remember_project(connection: psycopg.Connection, clock: datetime, target: Path) -> None:
    fingerprint = dbt.fingerprint()
    rules = dbt.rules()
    if not _value(connection, "has_state"):
        connection.execute(blocks("build")["make_state"])
    manifest = target / "manifest.json"
    is_new = _value(connection, "built_fingerprint") != fingerprint or not _value(connection, "count_models")
    if is_new and manifest.exists():
        models = dbt.model_fingerprints(json.loads(manifest.read_text()))
        connection.execute(blocks("build")["forget_models"])
        connection.execute(blocks("build")["remember_models"], {"models": json.dumps(models)})
    if _value(connection, "built_fingerprint") != fingerprint or _value(connection, "built_rules") != rules:
        connection.execute(blocks("build")["forget_state"])
        connection.execute(blocks("build")["remember_state"], {"fingerprint": fingerprint, "rules": rules})
    connection.execute(blocks("build")["remember_clock"], {"as_of": clock})


def target_folder(home: Path, url: str) -> Path:
    """Working folder of dbt, one for each warehouse: two builds that share one spoil each other's files."""
    parts = conninfo_to_dict(url)
    place = f"{parts.get('host')}:{parts.get('port')}/{parts.get('dbname')}"
    return home / "dbt" / f"{parts.get('dbname')}-{sha256(place.encode()).hexdigest()[:8]}"


def environment(
    url: str, clock: datetime, build: uuid.UUID | None, threads: int, settings: Sequence[str] = ()
) -> dict[str, str]:
    """Connection parts for profiles.yml, and the clock and the build as settings of its sessions."""
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    # jit: the planner's guesses about touched rows are low-risk but high-cost; compiling costs more than it saves.
    options = [
        parts.get("options", ""),
        "-c jit=off",
        # Touched keys are distinct: what was looked up for one is never asked for again.
        "-c enable_memoize=off",
        "-c timezone=UTC",
        # A crash takes back what is built again: the slices are consumed last, by a commit that is waited for.
        "-c synchronous_commit=off",
        f"-c penguin.as_of={clock.astimezone(UTC).isoformat()}",
        *settings,
    ]
    if build:
        options.append(f"-c penguin.build_id={build}")
    passed_on = {
        "sslmode": "PGSSLMODE",
        "sslrootcert": "PGSSLROOTCERT",
        "sslcert": "PGSSLCERT",
        "sslkey": "PGSSLKEY",
    }
    return child_environment(
        PENGUIN_DBT_HOST=parts.get("host", "localhost"),
        PENGUIN_DBT_PORT=parts.get("port", "5432"),
        PENGUIN_DBT_USER=parts.get("user", "postgres"),
        PENGUIN_DBT_DATABASE=parts.get("dbname", "penguin_olap"),
        PENGUIN_DBT_THREADS=str(threads),
        PENGUIN_DBT_APPLICATION=APPLICATION,
        DBT_ENV_SECRET_PASSWORD=parts.get("password", ""),
        PGOPTIONS=" ".join(filter(None, options)),
        **{variable: parts[name] for name, variable in passed_on.items() if name in parts},
    )


def _dbt_build(claim: Claim, select: str | None, unit_tests: bool, report: Report) -> None:
    """Runs dbt and tells how far it is; raises BuildFailed with what failed and why."""
    args = ["build"]
    if not unit_tests:
        args += ["--exclude-resource-type", "unit_test"]
    if claim.views_stand and not select:
        args += ["--select", *HOLDS_ROWS]
    if select:
        # Tests that need more than the part wait for the whole.
        args += ["--select", *select.split(), *TOUCHED, "--indirect-selection", "cautious"]
    run_dbt(args, claim.environment, claim.target, report)


def run_dbt(arguments: Sequence[str], environment: Mapping[str, str], target: Path, report: Report) -> None:
    """Runs one dbt command with its files in `target`; raises BuildFailed with what failed and why."""
    dbt.forget_stale_parse(target)
    results = target / "run_results.json"
    results.unlink(missing_ok=True)
    folders = ["--target-path", str(target), "--log-path", str(target)]
    said: list[str] = []
    with subprocess.Popen(
        dbt.build_command([*_SAYING, *arguments, *folders]),
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            for line in process.stdout or ():
                _listen(line, said, report)
        except BaseException:
            process.terminate()
            raise
    if process.returncode < 0:
        raise BuildFailed(
            f"dbt was ended by {signal.Signals(-process.returncode).name}. "
            "Nothing was marked as built; the next build does it again."
        )
    if process.returncode:
        raise BuildFailed(_failure(results, said))


def _listen(line: str, said: list[str], report: Report) -> None:
    try:
        entry = json.loads(line)
    except ValueError:
        said.append(line.strip())
        return
    info, data = entry.get("info", {}), entry.get("data", {})
    if "index" in data:
        node = data.get("node_info", {})
        report(
            f"{data.get('index')} of {data.get('total') or data.get('num_models')} {data.get('status', '').lower()} "
            f"{_short(node.get('unique_id', ''))}"
        )
    elif info.get("level") == "error":
        said.append(info.get("msg", "").strip())


def _short(unique_id: str) -> str:
    """`model.penguin.dim_tenants` as `model dim_tenants`; tests carry a hash at the end."""
    kind, _, rest = unique_id.partition(".")
    return f"{kind} {rest.split('.')[1] if '.' in rest else rest}"


def _failure(results: Path, said: list[str]) -> str:
    found = [r for r in _results(results) if r["status"] in ("error", "fail", "runtime error")]
    if not found:
        return f"dbt stopped before it built anything: {mask(' '.join(' '.join(said[-3:]).split()))}."
    first = found[0]
    message = " ".join((first.get("message") or "no message").split())
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return (
        f"The build failed at {_short(first['unique_id'])}{more}: {message} "
        "Nothing was marked as built; the next build does it again."
    )


def _results(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["results"] if path.exists() else []


def _counts(target: Path) -> tuple[int, int]:
    kinds = [result["unique_id"].partition(".")[0] for result in _results(target / "run_results.json")]
    return kinds.count("model"), kinds.count("test") + kinds.count("unit_test")
