"""One Postgres data folder and the server on it; also for restore drills, which need a second server.

Not here: where the folder lies and which port it gets (the package), what lies inside the databases (migrations).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

from penguin_pipelines.errors import ServiceError
from penguin_pipelines.lib.services.account import Account, readable
from penguin_pipelines.lib.services.processes import (
    HOST,
    PATIENCE,
    ServiceState,
    command_line,
    last_lines,
    log_since,
    size,
    stop_process,
    write_atomically,
)
from penguin_pipelines.lib.services.programs import Tools
from penguin_pipelines.settings import DATABASES

SUPERUSER = "penguin"
ANALYST = "penguin_analyst"

_POSTGRES_CONF = """\
# Rewritten at every start. Your own settings belong into postgresql.conf, below the line that includes this.
port = {port}
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_preload_libraries = '{preload}'
wal_level = logical
shared_buffers = '256MB'
work_mem = '32MB'
maintenance_work_mem = '256MB'
max_wal_size = '2GB'
checkpoint_timeout = '15min'
random_page_cost = 1.1
timezone = 'UTC'
log_timezone = 'UTC'
log_destination = 'stderr'
logging_collector = off
"""


class PostgresServer:
    """One data folder and the server on it."""

    def __init__(self, data: Path, log: Path) -> None:
        self.data = data
        self.log = log

    def _pidfile(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def running(self) -> ServiceState | None:
        """The server on our data folder. A crash leaves a pid file, so the process's own words decide."""
        lines = self._pidfile()
        if len(lines) < 4 or not lines[0].isdigit():
            return None
        command = command_line(int(lines[0]))
        if "postgres" not in command or f" -D {self.data} " not in f"{command} ":
            return None
        return ServiceState("postgres", int(lines[0]), int(lines[3]))

    def initialise(self, tools: Tools, account: Account, password: str) -> None:
        """Makes the data folder, whole or not at all."""
        parent = self.data.parent
        failure = ""
        for locale in ("C.UTF-8", "C"):
            work = Path(tempfile.mkdtemp(dir=parent, prefix=f"{self.data.name}.new-"))
            try:
                (work / "password").touch(0o600)
                (work / "password").write_text(password)
                account.own(work)
                account.own(work / "password")
                made = subprocess.run(
                    [
                        tools.bin / "initdb",
                        "-D",
                        work / "data",
                        "-U",
                        SUPERUSER,
                        "-A",
                        "scram-sha-256",
                        f"--pwfile={work / 'password'}",
                        "-E",
                        "UTF8",
                        f"--locale={locale}",
                        "--no-instructions",
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    cwd="/",
                    **account.options,
                )
                if made.returncode == 0:
                    with (work / "data" / "postgresql.conf").open("a") as file:
                        file.write("\ninclude_if_exists = 'penguin.conf'\n")
                    (work / "data").rename(self.data)
                    return
                failure = made.stdout
            finally:
                shutil.rmtree(work, ignore_errors=True)
        raise ServiceError(f"Postgres could not make its data folder {self.data}: {last_lines(failure)}")

    def start(self, tools: Tools, account: Account, port: int) -> str:
        """Starts the server and waits for it; gives the log of a failed start, or nothing."""
        tools = readable(tools, account, self.data.parent)
        account.own(self.data)
        conf = self.data / "penguin.conf"
        write_atomically(conf, _POSTGRES_CONF.format(port=port, preload=tools.preload))
        os.chown(conf, account.uid, -1)
        self._disown_stale_pid(account)
        offset = size(self.log)
        with self.log.open("ab") as log:
            # A session of its own: neither Ctrl-C nor the end of our terminal reaches the server.
            started = subprocess.run(
                [tools.bin / "pg_ctl", "-D", self.data, "-s", "-w", "-t", str(int(PATIENCE)), "start"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **account.options,
            )
        if started.returncode == 0:
            return ""
        return log_since(self.log, offset) or f"pg_ctl ended with {started.returncode}"

    def _disown_stale_pid(self, account: Account) -> None:
        """Lets Postgres start although the number in its pid file belongs to a zombie or to a stranger.

        Both are common in containers. Postgres ignores the number of the process that starts it, and still
        checks by the rest of the file that no child of the old server is left.
        """
        lines = self._pidfile()
        if lines and self.running() is None:
            pidfile = self.data / "postmaster.pid"
            write_atomically(pidfile, "\n".join([str(os.getpid()), *lines[1:]]) + "\n")
            os.chown(pidfile, account.uid, -1)

    def ensure_started(self, tools: Callable[[], Tools], port: Callable[[], int]) -> ServiceState:
        """Finds the server running or starts it, whatever state a crash left it in."""
        deadline = time.monotonic() + PATIENCE
        failure, attempts = "", 0
        while time.monotonic() < deadline and attempts < 5:
            if state := self.running():
                if "stopping" not in "".join(self._pidfile()[7:8]):
                    return state
            else:
                found = tools()
                failure = self.start(found, Account.choose(found.bin / "postgres"), port())
                if failure and not self.running():
                    # Children of a killed server may still be busy; everything else but a lost port is final.
                    if "pre-existing shared memory" not in failure:
                        attempts += 1 if "could not bind" in failure else 5
                else:
                    continue
            time.sleep(0.3)
        raise ServiceError(f"Postgres does not start: {last_lines(failure)}. The whole log is {self.log}.")

    def stop(self) -> ServiceState | None:
        """Stops the server in the fast mode; gives what it stopped."""
        state = self.running()
        if state and not stop_process(lambda: s.pid if (s := self.running()) else None, signal.SIGINT, signal.SIGQUIT):
            raise ServiceError(f"Postgres (pid {state.pid}) does not stop; its log is {self.log}.")
        return state


def connect(server: PostgresServer, port: int, password: str) -> psycopg.Connection:
    """As superuser, once the server lets us in; it may still be recovering."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return psycopg.connect(
                host=HOST,
                port=port,
                user=SUPERUSER,
                password=password,
                dbname="postgres",
                autocommit=True,
                connect_timeout=10,
            )
        except psycopg.OperationalError as error:
            refused = "password authentication failed" in str(error)
            if not refused and server.running() and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            reason = "its password is not the one in services.json" if refused else last_lines(str(error), 1)
            raise ServiceError(f"The local Postgres does not let us in: {reason}. Its log is {server.log}.") from None


def make_databases(connection: psycopg.Connection, names: set[str], analyst_password: str) -> None:
    have = {row[0] for row in connection.execute("select datname from pg_database")}
    for name in sorted(DATABASES[n] for n in names):
        if name not in have:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    if not connection.execute("select from pg_roles where rolname = %s", [ANALYST]).rowcount:
        connection.execute(
            sql.SQL("create role {} login password {}").format(sql.Identifier(ANALYST), sql.Literal(analyst_password))
        )
