"""Two runs at once, as separate processes: one waits or finds nothing left to do, none corrupts.

A second machine is a second process with the same URLs: all that keeps runs apart lives in the warehouse.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psycopg
from factories import make
from servers import PSEUDONYM_KEY, Databases, settle

from penguin_pipelines.lib import ingest, reconcile, specs
from penguin_pipelines.lib.load import Loaded
from penguin_pipelines.lib.sql import blocks

MESSAGES = "content.email_messages"
COMMAND = [str(Path(sys.executable).with_name("penguin"))]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def fill(tiers: Mapping[str, str], first: int, last: int) -> None:
    with psycopg.connect(tiers["content"]) as connection:
        connection.execute(
            "insert into email_messages (storage_key, tenant_id, direction, from_email, to_email) "
            "select 'm' || n, md5((n %% 3)::text)::uuid, 'outbound', 'a@b.c', 'd@e.f' "
            "from generate_series(%s::int, %s::int) as n",
            [first, last],
        )


def assert_equal(tiers: Databases) -> None:
    """A last run, then every row compared and the live rows counted."""
    settle(tiers["content"])
    table = specs.find(MESSAGES)
    (loaded,) = ingest.ingest(tiers, [table], pseudonym_key=PSEUDONYM_KEY)
    assert isinstance(loaded, Loaded), loaded
    (result,) = reconcile.reconcile(tiers, [table], pseudonym_key=PSEUDONYM_KEY, full=True, marts=False)
    assert (result.state, result.source_rows) == ("equal", loaded.row_count), result


def test_a_backfill_beside_two_schedules_leaves_every_row_once(
    tiers: Databases, settings_env: Mapping[str, str]
) -> None:
    """All wait for one table's turn, held by the test, so that they truly meet there."""
    del settings_env
    fill(tiers, 1, 300)
    settle(tiers["content"])
    (first,) = ingest.ingest(tiers, [specs.find(MESSAGES)], pseudonym_key=PSEUDONYM_KEY)
    assert isinstance(first, Loaded)
    fill(tiers, 301, 600)
    with psycopg.connect(tiers["content"], autocommit=True) as content:
        content.execute("delete from email_messages where storage_key in ('m1', 'm2')")
        content.execute("update email_messages set open_count = 1 where storage_key = 'm3'")
        settle(tiers["content"])
        with psycopg.connect(tiers["olap"]) as turn:
            turn.execute(blocks("load")["take_turn"], {"table": MESSAGES})
            runs = [start("ingest", "--json", "--table", MESSAGES, *more) for more in ([], ["--full"], [])]
            _wait_for_waiters(turn, len(runs))
            content.execute("update email_messages set open_count = 2 where storage_key = 'm3'")
        outcomes = [json.loads(finish(run))[0] for run in runs]
    assert all(o["mode"] in ("delta", "full", "overtaken", "idle") for o in outcomes), outcomes
    assert sum(o["written"] for o in outcomes if o["mode"] == "delta") <= 301, "Rows are written once."
    assert_equal(tiers)


def _wait_for_waiters(turn: psycopg.Connection, number: int) -> None:
    query = (
        "select count(*) from pg_locks where locktype = 'advisory' and not granted "
        "and database = (select oid from pg_database where datname = current_database())"
    )
    for _ in range(6000):
        row = turn.execute(query).fetchone()
        if row and row[0] >= number:
            return
        turn.execute("select pg_sleep(0.02)")
    raise AssertionError("The runs never met.")


def test_first_runs_at_once_make_one_table(tiers: Databases, settings_env: Mapping[str, str]) -> None:
    """Neither finds a bookmark: whoever comes second builds on what the first has made."""
    del settings_env
    fill(tiers, 1, 100)
    settle(tiers["content"])
    with psycopg.connect(tiers["olap"]) as turn:
        turn.execute(blocks("load")["take_turn"], {"table": MESSAGES})
        runs = [start("ingest", "--json", "--table", MESSAGES) for _ in range(2)]
        _wait_for_waiters(turn, len(runs))
    modes = sorted(json.loads(finish(run))[0]["mode"] for run in runs)
    assert modes[0] == "baseline" and modes[1] in ("delta", "full", "idle"), modes
    assert_equal(tiers)


def test_a_run_killed_while_another_waits_lets_the_other_do_the_work(
    tiers: Databases, settings_env: Mapping[str, str]
) -> None:
    del settings_env
    fill(tiers, 1, 100)
    settle(tiers["content"])
    with psycopg.connect(tiers["olap"]) as turn:
        turn.execute(blocks("load")["take_turn"], {"table": MESSAGES})
        killed, other = (start("ingest", "--json", "--table", MESSAGES) for _ in range(2))
        _wait_for_waiters(turn, 2)
        killed.kill()
        killed.wait()
    assert json.loads(finish(other))[0]["row_count"] == 100
    assert_equal(tiers)


def test_a_fix_beside_a_run_waits_for_its_turn(tiers: Databases, settings_env: Mapping[str, str]) -> None:
    del settings_env
    with psycopg.connect(tiers["content"], autocommit=True) as content:
        make(content, "email_messages", storage_key="spoilt")
        fill(tiers, 1, 100)
        settle(tiers["content"])
        list(ingest.ingest(tiers, [specs.find(MESSAGES)], pseudonym_key=PSEUDONYM_KEY))
        with psycopg.connect(tiers["olap"], autocommit=True) as olap:
            olap.execute("update raw_content.email_messages set open_count = 9 where storage_key = 'spoilt'")
        fill(tiers, 101, 200)
        settle(tiers["content"])
        with psycopg.connect(tiers["olap"]) as turn:
            turn.execute(blocks("load")["take_turn"], {"table": MESSAGES})
            runs = [start("reconcile", "--fix", "--json", "--table", MESSAGES), start("ingest", "--table", MESSAGES)]
            _wait_for_waiters(turn, 2)
        for run in runs:
            finish(run)
    assert_equal(tiers)
