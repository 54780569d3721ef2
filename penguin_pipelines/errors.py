"""Every exception that we raise, and the masking of secrets in what people get to read.

A message is one sentence (or a few) that says what happened, to which thing, and what to do next. Catching
and printing belong to the command line; retrying belongs to whoever knows the work and asks `transient`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import ClassVar, Self

# A password may hold unescaped slashes and at-signs in URLs of databases; hiding too much is harmless there.
_DATABASE_URL = re.compile(r"((?:postgres(?:ql)?(?:\+\w+)?|rediss?|unix)://[^:/@\s]*:)\S*@")
_ANY_URL = re.compile(r"(://[^:/@\s]*:)[^/\s]*@")
_KEYWORD = re.compile(
    r"""((?:password|passwd|pseudonym_key)["']?\s*[=:]\s*)('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s&]+)""",
    re.IGNORECASE,
)
_LISTED = 20


def mask(text: str) -> str:
    """The text with passwords in URLs and after `password=` replaced by `***`."""
    text = _DATABASE_URL.sub(r"\1***@", text)
    text = _ANY_URL.sub(r"\1***@", text)
    return _KEYWORD.sub(r"\1***", text)


class PenguinError(Exception):
    """Base of all of them; its text never holds a password."""

    transient: ClassVar[bool] = False
    """Whether the same call may succeed a little later without anybody's help."""

    def __init__(self, sentence: str) -> None:
        super().__init__(mask(sentence))


class SettingsError(PenguinError):
    """A variable of the environment is missing or has no usable value."""


class ServiceError(PenguinError):
    """A local service cannot be found, started or stopped, or does not run."""


class ConnectionFailed(PenguinError):
    """A server does not answer or does not let us in."""

    transient = True


class SchemaError(PenguinError):
    """A tier's schema is missing, older or newer than this version of the program."""


class SourceReplaced(PenguinError):
    """A source is another database than the one that the bookmarks speak about."""


class BaselineRunning(PenguinError):
    """Another process is reading a table for the first time, which may take hours."""


class TableDrift(PenguinError):
    """A column of a source table was dropped, renamed or given another type."""


class TableRewritten(PenguinError):
    """A source table was rewritten between the snapshot and its first read, and looks empty in the snapshot."""

    transient = True


class UnknownName(PenguinError):
    """A table, tier or other name that does not exist."""

    @classmethod
    def of(cls, kind: str, given: str, valid: Iterable[str]) -> Self:
        names = sorted(valid)
        close = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
        sentence = f"There is no {kind} {given!r}"
        if close:
            return cls(f"{sentence}; did you mean {close[0]!r}?")
        if not names:
            return cls(f"{sentence}; there is none at all.")
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        return cls(f"{sentence}; choose from {', '.join(names[:_LISTED])}{more}.")


class Busy(PenguinError):
    """Another run holds the lock."""

    transient = True


class BuildFailed(PenguinError):
    """dbt stopped with an error."""
