"""dbt as our builds run it: the program as it is installed, without what costs a small build most and gives it nothing.

    python -m penguin_pipelines.lib.dbt_program ARGUMENT...

Stock dbt closes its connection after each model and test, and the backend of the next one learns the catalog anew:
half of what the server does in a small build. Here a thread keeps its connection. Stock dbt also words each of its
thousands of debug messages before it drops them; here only results and errors are worded, a line of JSON each, on
standard output. And it writes the manifest a second time at the end, with what it compiled; here the one that it
parsed stands.

Here: how dbt runs. Not here: with which arguments and what its lines mean (lib/build.py), dbt for anything but a
build (`dbt_command` in lib/dbt.py).
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import psycopg2
from dbt.adapters.postgres.connections import PostgresConnectionManager
from dbt.adapters.postgres.impl import PostgresAdapter
from dbt.cli.main import dbtRunner
from dbt.task import runnable
from dbt_common.events.functions import env_scrubber, msg_to_dict

from penguin_pipelines.lib.sql import blocks

_RESULTS = ("LogModelResult", "LogTestResult", "LogSeedResult")
_OBJECTS_BETWEEN_COLLECTIONS = 50_000


class Kept(PostgresConnectionManager):
    """Connections that serve one node after the other; each finds a session as it was when it was opened."""

    @classmethod
    def open(cls, connection: Any) -> Any:
        opened: Any = super().open(connection)
        opened.handle.commit()  # the role of the session would end with a transaction that is rolled back
        return opened

    def release(self) -> None:
        connection: Any = self.get_if_exists()
        if connection is None or connection.state != "open":
            return
        if connection.name.startswith("list_"):
            super().release()  # of a thread that only looks what a schema holds
            return
        try:
            connection.handle.rollback()
            connection.transaction_open = False
            with connection.handle.cursor() as cursor:
                cursor.execute(blocks("build")["discard_temporary"])
            connection.handle.commit()
        except psycopg2.Error:
            super().release()  # nobody can use it any more; the next node opens one


def run(arguments: Sequence[str], manifest: Any = None) -> int:
    """Runs dbt in this process and gives its exit code; a `manifest` that is given is not parsed."""
    PostgresAdapter.ConnectionManager = Kept
    runnable.write_manifest = lambda *_: None  # pyright: ignore[reportPrivateImportUsage]
    # What dbt has loaded stays until the end: to look through it again and again finds nothing.
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    done = dbtRunner(manifest=manifest, callbacks=[_say]).invoke(["--log-level", "none", *arguments])
    if done.exception:
        sys.stdout.write(f"{done.exception}\n")
    sys.stdout.flush()
    return 0 if done.success else 2 if done.exception else 1


def _say(message: Any) -> None:
    if message.info.name in _RESULTS or message.info.level == "error":
        try:
            sys.stdout.write(f"{env_scrubber(json.dumps(msg_to_dict(message), default=str))}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # The build that listened died, and what follows is wanted by nobody. An error would end this thread alone.
            os._exit(1)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
