"""Identifiers from the seeded generator: UUIDs (random or ordered by time), hex tokens and object arrays of
them.

Not here: storage keys and event rows (traffic.py, events.py), which are composed of these.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
_SLOTS = np.array([i for i in range(36) if i not in (8, 13, 18, 23)])
_MILLISECOND = 1_000


def _random(rng: np.random.Generator, n: int) -> NDArray[np.uint8]:
    return np.frombuffer(rng.bytes(16 * n), dtype=np.uint8).reshape(n, 16).copy()


def _ordered(rng: np.random.Generator, times: NDArray[np.int64]) -> NDArray[np.uint8]:
    raw = _random(rng, len(times))
    stamp = (times // _MILLISECOND).astype(">u8").view(np.uint8).reshape(-1, 8)
    raw[:, :6] = stamp[:, 2:]
    return raw


def _nibbles(raw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    out = np.empty((len(raw), 32), dtype=np.uint8)
    out[:, 0::2] = _HEX[raw >> 4]
    out[:, 1::2] = _HEX[raw & 15]
    return out


def _cut(characters: NDArray[np.uint8], width: int) -> list[str]:
    text = characters.tobytes().decode("ascii")
    return [text[i : i + width] for i in range(0, len(text), width)]


def objects(values: Sequence[str]) -> NDArray[np.object_]:
    """An array of Python strings, which numpy can index without copying text."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def uuids(rng: np.random.Generator, n: int, times: NDArray[np.int64] | None = None) -> list[str]:
    """Version 4, or version 7 when `times` (microseconds) are given: new keys then land side by side in an
    index."""
    raw = _random(rng, n) if times is None else _ordered(rng, times)
    raw[:, 6] = raw[:, 6] & 0x0F | (0x40 if times is None else 0x70)
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    out = np.full((n, 36), ord("-"), dtype=np.uint8)
    out[:, _SLOTS] = _nibbles(raw)
    return _cut(out, 36)


def uuid(rng: np.random.Generator) -> str:
    """One random UUID."""
    return uuids(rng, 1)[0]


def event_keys(rng: np.random.Generator, times: NDArray[np.int64]) -> list[str]:
    """Event ids as a provider gives them: opaque, ordered by time."""
    return _cut(_nibbles(_ordered(rng, times)), 32)


def token(rng: np.random.Generator, length: int = 14) -> str:
    """A short opaque token, as in identifiers of a payment provider."""
    return rng.bytes(length).hex()[:length]
