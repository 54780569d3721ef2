"""Ingestion as a process of its own that is killed at random moments, resumed, and made to replay an old bookmark.

Two phases: the first load of everything, and catch-ups with a large window of changes, deletes and new rows. Not here:
writers that write meanwhile (engine).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from servers import settle

from storm.engine import FAULTS, MESSAGES, NOTIFICATIONS, OPENS, TENANTS, compare, extract_once

TABLES = (TENANTS, MESSAGES, OPENS, NOTIFICATIONS)
PATIENCE = 60.0
FILL = {
    "oltp": [
        "insert into tenants (id, name) select md5('tenant ' || i)::uuid, i::text "
        "from generate_series(1, %(rows)s / 10) i"
    ],
    "content": [
        "insert into email_messages (storage_key, tenant_id, direction, from_email, to_email, sent) "
        "select 'm' || i, md5((i %% 50)::text)::uuid, 'outbound', i || '@a.example', i || '@b.example', "
        "timestamptz '2026-01-01 12:00+00' + (i %% 300) * interval '1 day' from generate_series(1, %(rows)s) i",
        "insert into email_opens (tenant_id, storage_key, event_key, opened) "
        "select md5((i %% 50)::text)::uuid, 'm' || i, 'o' || i, "
        "now() - (i %% 90) * interval '1 day' from generate_series(1, %(rows)s, 2) i",
        "insert into notifications (id, tenant_id, type, title, message) select md5(i::text)::uuid, "
        "md5((i %% 50)::text)::uuid, 'NEW_MESSAGE', '', '' from generate_series(1, %(rows)s / 4) i",
    ],
}
# A catch-up, by its number: other rows each time, every kind of change.
CHANGE = {
    "oltp": [
        "update tenants set name = name || '+' where hashtext(id::text) %% 7 = %(turn)s %% 7",
        "delete from tenants where hashtext(id::text) %% 31 = %(turn)s %% 31",
    ],
    "content": [
        "update email_messages set sent = sent + interval '1 day' where hashtext(storage_key) %% 4 = %(turn)s %% 4",
        "delete from email_messages where hashtext(storage_key) %% 29 = %(turn)s %% 29",
        "insert into email_messages (storage_key, tenant_id, direction, from_email, to_email, sent) "
        "select 'n%(turn)s ' || i, md5((i %% 50)::text)::uuid, 'outbound', 'a@b.c', 'd@e.f', now() "
        "from generate_series(1, %(rows)s / 50) i",
        "create temporary table back as select * from email_messages "
        "where hashtext(storage_key) %% 37 = %(turn)s %% 37; "
        "begin; delete from email_messages where storage_key in (select storage_key from back); "
        "insert into email_messages (storage_key, tenant_id, direction, from_email, to_email, sent, open_count) "
        "select storage_key, tenant_id, direction, from_email, to_email, sent, 3 from back; commit; drop table back",
        "update email_opens set opened = opened - interval '31 days' "
        "where hashtext(event_key) %% 23 = %(turn)s %% 23 and opened > now() - interval '100 days'",
        "update notifications set is_read = not is_read where hashtext(id::text) %% 5 = %(turn)s %% 5",
    ],
}


@dataclass
class Catchup:
    """One source with much to read, and a process that reads it and dies."""

    urls: Mapping[str, str]
    redis_url: str
    home: Path
    rows: int
    seed: int
    work: float | None = None
    """Seconds that a run works after its start; without it, learned from a run of each phase that nobody kills."""
    killed: int = field(default=0, init=False)
    turn: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def run(self, kills: int, tell: Callable[[str], None] = lambda _: None) -> bool:
        """Kills that often, the first third in the first load, and gives whether all was right at the end."""
        self._write(FILL)
        work = self._learn()
        self._forget()
        while self.killed < max(1, kills // 3):
            if self._killed_at(self.dice.uniform(0, work)):
                tell(f"killed {self.killed:>3}: first load, {self._bookmarks()} tables had been read")
            else:
                self._forget()
        self._finish()
        good = self._says(tell, "first load")
        self._execute("truncate ops.touched_slices")
        kept = self._copy()
        before = self._slices()
        self._change()
        if self.work is None:
            work = self._learn()
            self._change()
        while self.killed < kills:
            now = self._copy()
            if self._killed_at(self.dice.uniform(0, work)):
                tell(
                    f"killed {self.killed:>3}: catch-up {self.turn}, {self._moved(now)} bookmarks had moved in this run"
                )
            else:
                self._change()
        self._finish()
        good &= self._says(tell, "catch-up")
        touched = self._touched()
        changed = before ^ self._slices()
        lacking = changed - touched
        tell(f"slices of messages that were left or entered: {len(changed)}, not touched: {len(lacking)}")
        raw = self._everything()
        self._restore(kept)
        assert extract_once(self.urls, TABLES) == []
        same = raw == self._everything()
        tell(f"replay of the bookmarks from before the catch-up: {'the same rows' if same else 'OTHER ROWS'}")
        return self._says(tell, "replay") and good and same and not lacking

    # -- the process -------------------------------------------------------------------------------

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PENGUIN_")}
        environment |= {f"PENGUIN_{name.upper()}_URL": url for name, url in self.urls.items()}
        environment |= {"PENGUIN_ENV": "local", "PENGUIN_HOME": str(self.home), "PENGUIN_REDIS_URL": self.redis_url}
        environment["PENGUIN_PSEUDONYM_KEY"] = "a key that only the tests use"
        settle(self.urls["content"])
        penguin = Path(sys.executable).with_name("penguin")
        only = [word for table in TABLES for word in ("--table", table.full_name)]
        return subprocess.Popen(
            [penguin, "ingest", *only], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def _learn(self) -> float:
        """Seconds that a run works that nobody kills."""
        if self.work is not None:
            return self.work
        with self._start() as process:
            self._wait_for_work(process)
            begun = time.monotonic()
            said, _ = process.communicate()
            assert process.returncode == 0, said.decode()
        return time.monotonic() - begun

    def _killed_at(self, seconds: float) -> bool:
        """Starts a run and kills it that long after it reached the warehouse; False when it was faster."""
        with self._start() as process:
            self._wait_for_work(process)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                self.killed += 1
                return True
            said, _ = process.communicate()
            assert process.returncode == 0, said.decode()
            return False

    def _wait_for_work(self, process: subprocess.Popen[bytes]) -> None:
        """Until the process acts as the loader in the warehouse: its imports are over."""
        deadline = time.monotonic() + PATIENCE
        with psycopg.connect(self.urls["olap"], autocommit=True) as connection:
            query = (
                "select exists (select from pg_stat_activity where datname = current_database() "
                "and application_name = 'penguin olap' and backend_start > now() - interval '1 minute')"
            )
            while connection.execute(query).fetchone() != (True,) and process.poll() is None:
                assert time.monotonic() < deadline, "The run has not reached the warehouse for a minute."
                time.sleep(0.01)

    def _finish(self) -> None:
        with self._start() as process:
            said, _ = process.communicate()
            assert process.returncode == 0, said.decode()

    # -- the sources and the warehouse -------------------------------------------------------------

    def _write(self, statements: Mapping[str, list[str]]) -> None:
        for tier, some in statements.items():
            with psycopg.connect(self.urls[tier], autocommit=True) as connection:
                for statement in some:
                    psycopg.ClientCursor(connection).execute(statement, {"rows": self.rows, "turn": self.turn})  # type: ignore[arg-type]

    def _change(self) -> None:
        self.turn += 1
        self._write(CHANGE)

    def _execute(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.urls["olap"], autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def _forget(self) -> None:
        """A warehouse that has read nothing."""
        for table in TABLES:
            self._execute(f"drop table if exists {table.raw_schema}.{table.name}")
        self._execute("truncate ops.bookmarks, ops.touched_slices")

    def _bookmarks(self) -> int:
        return len(self._copy())

    def _moved(self, since: list[tuple[Any, ...]]) -> int:
        return len(set(self._copy()) - set(since))

    def _copy(self) -> list[tuple[Any, ...]]:
        return self._execute("select source, table_name, horizon::text from ops.bookmarks")

    def _restore(self, kept: list[tuple[Any, ...]]) -> None:
        with psycopg.connect(self.urls["olap"], autocommit=True) as connection:
            for source, table, horizon in kept:
                connection.execute(
                    "update ops.bookmarks set horizon = %s::xid8 where source = %s and table_name = %s",
                    [horizon, source, table],
                )

    def _slices(self) -> set[tuple[Any, ...]]:
        """The slices of the messages of the source, as they are now."""
        with psycopg.connect(self.urls["content"]) as connection:
            return set(
                connection.execute(
                    "select tenant_id, storage_key, (sent at time zone 'UTC')::date from email_messages"
                ).fetchall()
            )

    def _touched(self) -> set[tuple[Any, ...]]:
        return set(
            self._execute("select tenant_id, storage_key, activity_date from ops.touched_slices where kind = 'message'")
        )

    def _everything(self) -> list[list[tuple[Any, ...]]]:
        """All raw rows of the tables that change, deleted ones too; when they were loaded does not count."""
        return [
            self._execute(
                f"select to_jsonb(r) - '_loaded' from {t.raw_schema}.{t.name} as r order by {', '.join(t.raw_key)}"
            )
            for t in TABLES
        ]

    def _says(self, tell: Callable[[str], None], when: str) -> bool:
        found = compare(self.urls, TABLES)
        faults = {name: sum(of[name] for of in found.values()) for name in FAULTS}
        doubled = 0
        for t in TABLES:
            key = ", ".join(t.raw_key)
            ((n,),) = self._execute(
                f"select count(*) from (select from {t.raw_schema}.{t.name} group by {key} having count(*) > 1) as d"
            )
            doubled += n
        counts = ", ".join(f"{n} {name}" for name, n in {**faults, "doubled": doubled}.items())
        tell(f"after the {when}: {sum(of['rows'] for of in found.values())} rows, {counts}")
        return not any([*faults.values(), doubled])
