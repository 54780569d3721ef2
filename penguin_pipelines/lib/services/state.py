"""The folder of local state: made private, one caller at a time, and `services.json` with ports and passwords.

Not here: the servers that the state describes (postgres, valkey).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from penguin_pipelines.errors import ServiceError
from penguin_pipelines.lib.services.postgres import PostgresServer
from penguin_pipelines.lib.services.processes import Report, write_atomically
from penguin_pipelines.settings import Settings


@dataclass
class State:
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
    def new(cls) -> State:
        postgres, analyst, redis_, key = (secrets.token_hex(24) for _ in range(4))
        return cls(postgres, analyst, redis_, key)

    @classmethod
    def load(cls, home: Path) -> State | None:
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
        write_atomically(home / "services.json", json.dumps(asdict(self), indent=2) + "\n")

    def server(self, home: Path) -> PostgresServer | None:
        if self.postgres_data is None:
            return None
        return PostgresServer(home / self.postgres_data, home / "logs" / "postgres.log")


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
def one_at_a_time(home: Path, report: Report) -> Iterator[None]:
    import fcntl  # absent on Windows, where external URLs work without it

    with (home / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("Another `penguin up` or `penguin down` is at work; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
