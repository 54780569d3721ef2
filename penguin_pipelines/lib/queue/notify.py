"""Delivers what the outbox of alerts holds: webhook, Slack, e-mail. Each notification arrives at least once.

Notifications are taken before they are sent, so a crash repeats them after a pause; each carries an id by which a
receiver knows a repetition. Addresses are secrets and never part of an error. Not here: what is told and when (alerts).
"""

from __future__ import annotations

import http.client
import json
import smtplib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import psycopg
from psycopg.rows import class_row, dict_row

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.lib import db
from penguin_pipelines.lib.sql import blocks
from penguin_pipelines.settings import Settings

_SECONDS = 5
"""A receiver that does not answer within this is tried again later."""
_AT_ONCE = 50
RUNBOOK = "docs/runbooks/queue-alerts.md"


class NotDelivered(PenguinError):
    """A receiver did not take a notification."""

    transient = True


@dataclass(frozen=True)
class Channels:
    """Where alerts go; None where nothing is configured."""

    webhook: str | None = None
    slack: str | None = None
    smtp: str | None = None
    sender: str = "penguin@localhost"
    recipients: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Channels that are configured, as the outbox names them."""
        configured = {"webhook": self.webhook, "slack": self.slack, "email": self.smtp and self.recipients}
        return [name for name, value in configured.items() if value]


def channels_of(settings: Settings) -> Channels:
    """The channels that the environment configures."""
    recipients = [address.strip() for address in (settings.alert_email_to or "").split(",")]
    return Channels(
        settings.url("alert_webhook"),
        settings.url("alert_slack"),
        settings.url("alert_smtp"),
        settings.alert_email_from,
        tuple(filter(None, recipients)),
    )


@dataclass(frozen=True)
class Notification:
    """One line of the outbox with its alert."""

    id: int
    alert_id: UUID
    kind: str
    attempts: int
    queue: str | None
    rule: str
    level: str
    observed: float | None
    threshold: float | None
    message: str
    opened: datetime
    closed: datetime | None

    @property
    def line(self) -> str:
        """For people: what, where and why."""
        state = {"opened": self.level.upper(), "reminder": f"STILL {self.level.upper()}", "closed": "CLOSED"}[self.kind]
        # One line, whatever an error's name holds: it becomes the subject of a mail.
        return f"[{state}] {self.queue or 'queue tier'}: {self.rule}: {' '.join(self.message.split())}"

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "id": f"{self.alert_id}:{self.kind}:{self.id}",
            "alert": str(self.alert_id),
            "state": self.kind,
            "queue": self.queue,
            "rule": self.rule,
            "level": self.level,
            "observed": self.observed,
            "threshold": self.threshold,
            "message": self.message,
            "opened": self.opened.isoformat(),
            "closed": self.closed.isoformat() if self.closed else None,
            "runbook": f"{RUNBOOK}#{self.rule}",
        }


@dataclass(frozen=True)
class Delivered:
    """How a channel did."""

    channel: str
    arrived: int
    failed: int
    error: str | None = None


def deliver(url: str, channels: Channels, *, seconds: float = 30) -> list[Delivered]:
    """Sends what is due, channel by channel; stops after `seconds`. A receiver that fails holds no other one up."""
    deadline = time.monotonic() + seconds
    with db.connect(url, "queue", role="pm_worker", autocommit=True) as connection:
        return [done for name in channels.names if (done := _channel(connection, name, channels, deadline))]


def waiting(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """By channel: how many have not arrived, since when, and the last error."""
    return connection.cursor(row_factory=dict_row).execute(blocks("watch")["waiting_notifications"]).fetchall()


def _channel(connection: psycopg.Connection, name: str, channels: Channels, deadline: float) -> Delivered | None:
    arrived = 0
    while time.monotonic() + _SECONDS < deadline:
        taken = _take(connection, name)
        if not taken:
            break
        ids = [n.id for n in taken]
        try:
            _SENDERS[name](channels, taken)
        except NotDelivered as e:
            connection.execute(blocks("watch")["undelivered"], {"ids": ids, "error": str(e)})
            return Delivered(name, arrived, len(taken), str(e))
        connection.execute(blocks("watch")["delivered"], {"ids": ids})
        arrived += len(taken)
    return Delivered(name, arrived, 0) if arrived else None


def _take(connection: psycopg.Connection, name: str) -> list[Notification]:
    values = {"channel": name, "limit": _AT_ONCE}
    cursor = connection.cursor(row_factory=class_row(Notification))
    return sorted(cursor.execute(blocks("watch")["take_notifications"], values).fetchall(), key=lambda n: n.id)


def _subject(taken: Sequence[Notification]) -> str:
    first = taken[0].line
    return first if len(taken) == 1 else f"{first} (and {len(taken) - 1} more)"


def _webhook(channels: Channels, taken: Sequence[Notification]) -> None:
    _post("webhook", channels.webhook or "", {"alerts": [n.as_json() for n in taken]}, taken)


def _slack(channels: Channels, taken: Sequence[Notification]) -> None:
    text = "\n".join(n.line for n in taken).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    _post("Slack", channels.slack or "", {"text": text}, taken)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry alerts to an address that nobody configured."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _post(what: str, url: str, body: Mapping[str, Any], taken: Sequence[Notification]) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": f"penguin-{taken[0].id}-{taken[-1].id}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    host = urlsplit(url).hostname
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=_SECONDS) as answer:
            answer.read(1_000)
    except urllib.error.HTTPError as e:
        raise NotDelivered(f"The {what} at {host} answered {e.code}; the alert is sent again later.") from None
    except (OSError, ValueError, http.client.HTTPException) as e:
        # Only its kind: the text of some errors repeats the address, which is the secret.
        reason = type(getattr(e, "reason", None) or e).__name__
        raise NotDelivered(
            f"The {what} at {host} cannot be reached ({reason}); the alert is sent again later."
        ) from None


def _email(channels: Channels, taken: Sequence[Notification]) -> None:
    server = urlsplit(channels.smtp or "")
    message = EmailMessage()
    message["From"], message["To"] = channels.sender, ", ".join(channels.recipients)
    message["Subject"], message["Date"] = _subject(taken)[:200], formatdate()
    message["Message-ID"] = f"<alerts-{taken[0].alert_id}-{taken[0].id}-{taken[-1].id}@penguin>"
    message["Auto-Submitted"] = "auto-generated"
    lines = [f"{n.line}\n  since {n.opened:%Y-%m-%d %H:%M} UTC, {RUNBOOK}#{n.rule}" for n in taken]
    message.set_content("\n\n".join(lines) + "\n")
    try:
        _send(server, message)
    except _NoTls:
        said = "offers no TLS, so the password was not sent"
    except smtplib.SMTPAuthenticationError as e:
        said = f"did not accept the user and password ({e.smtp_code})"  # its own words may repeat what it was given
    except ssl.SSLCertVerificationError as e:
        said = f"has a certificate that was refused ({e.verify_message})"
    except (OSError, smtplib.SMTPException) as e:
        said = f"did not take it ({_code(e) or type(e).__name__})"
    else:
        return
    raise NotDelivered(f"The mail server {server.hostname} {said}; the alert is sent again later.")


class _NoTls(Exception):
    """A password is set and the server offers no way to keep it secret."""


def _code(error: Exception) -> int | None:
    """The number with which a mail server refused, where it did."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return next((code for code, _ in error.recipients.values()), None)
    return error.smtp_code if isinstance(error, smtplib.SMTPResponseException) else None


def _send(server: Any, message: EmailMessage) -> None:
    secure = ssl.create_default_context()
    if server.scheme == "smtps":
        client = smtplib.SMTP_SSL(server.hostname, server.port or 465, timeout=_SECONDS, context=secure)
    else:
        client = smtplib.SMTP(server.hostname, server.port or 25, timeout=_SECONDS)
    with client:
        client.ehlo()
        if server.scheme != "smtps" and client.has_extn("starttls"):
            client.starttls(context=secure)
            client.ehlo()
        if server.username:
            # An eavesdropper who strikes STARTTLS from the answer must not get the password for it.
            if not isinstance(client.sock, ssl.SSLSocket):
                raise _NoTls
            client.login(unquote(server.username), unquote(server.password or ""))
        client.send_message(message)


_SENDERS: Mapping[str, Callable[[Channels, Sequence[Notification]], None]] = {
    "webhook": _webhook,
    "slack": _slack,
    "email": _email,
}
