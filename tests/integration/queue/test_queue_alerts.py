"""Alerts on a real queue: they open, are told, close; watching tells nothing twice and a crash loses nothing."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from queue_support import QUEUE, Tested, tested_fixture, told

from penguin_pipelines.errors import ConnectionFailed
from penguin_pipelines.lib import db
from penguin_pipelines.lib.queue import alerts, health, notify
from penguin_pipelines.lib.queue.model import NewJob
from penguin_pipelines.lib.queue.watch import judge_all, load_rules

__all__ = ["tested_fixture"]

RULES = load_rules()


@pytest.fixture(name="watch")
def watch_fixture(tested: Tested) -> Any:
    def look(*channels: str) -> alerts.Watched:
        return alerts.watch(tested.url, tested.redis_url, RULES, channels)

    return look


def opened(watched: alerts.Watched, queue: str | None = QUEUE) -> set[str]:
    return {f.rule for f in watched.opened if f.queue == queue}


def past(minutes: float) -> datetime:
    return datetime.now(UTC) - timedelta(minutes=minutes)


# -- what a look sees ------------------------------------------------------------------------------


def test_a_queue_that_stands_still_is_reported_by_the_first_look(tested: Tested, watch: Any) -> None:
    for _ in range(3):
        tested.add(run=past(10))
    assert "standing_still" in opened(watch())


def test_jobs_for_tomorrow_are_no_alert(tested: Tested, watch: Any) -> None:
    tested.producer.enqueue_many(_new(run=datetime.now(UTC) + timedelta(days=1)) for _ in range(1_500))
    watched = watch()
    assert watched.findings == [] and watched.waiting == 0
    assert tested.one("select metadata -> 'delayed' from queue_health where queue_name = %s", QUEUE) == 1_500


def test_a_queue_that_a_worker_works_raises_nothing(tested: Tested, watch: Any) -> None:
    for _ in range(20):
        tested.add(run=past(10))
    tested.work()
    tested.add(run=past(10))
    assert opened(watch()) <= {"slow_processing"}


def test_figures_of_a_look_are_those_of_the_tables(tested: Tested) -> None:
    tenant_a, tenant_b = _tenant(1), _tenant(2)
    tested.add(priority=10, run=past(30), tenant_id=tenant_b)
    tested.add(priority=100, run=past(20), tenant_id=tenant_a)
    tested.add(priority=200, run=past(400))
    tested.add(priority=200, run=past(-60))
    tested.add(run=past(60), expires=past(1))
    spent = tested.add(run=past(60))
    tested.change("update jobs set attempt_count = max_attempts where id = %s", spent)
    for status, beat in (("processing", 5), ("processing", 0), ("migrated_to_redis", 11)):
        job = tested.add()
        tested.change(
            "update jobs set status = %s, heartbeat = %s, started = now(), worker_id = %s, "
            "lease_token = gen_random_uuid() where id = %s",
            status, past(beat), f"worker {beat}", job,
        )  # fmt: skip
    (q,) = [q for q in health.look(tested.url, tested.redis_url, RULES).queues if q.queue == QUEUE]
    assert (q.high, q.normal, q.low, q.migrated, q.delayed, q.spent) == (1, 1, 1, 1, 1, 1)
    assert (q.running, q.alive, q.lost, q.stranded, list(q.silent_workers)) == (2, 1, 1, 1, ["worker 5"])
    assert [round(s / 60) for s in (q.oldest_seconds, q.high_seconds, q.normal_seconds, q.low_seconds)] == [
        400, 30, 20, 400,
    ]  # fmt: skip
    assert (q.first_tenant, round(q.first_tenant_seconds / 60)) == (str(tenant_b), 30)


def test_a_tenant_whose_jobs_stand_while_others_end_is_found(tested: Tested, watch: Any) -> None:
    for _ in range(25):
        tested.add(tenant_id=_tenant(1))
    tested.work()
    tested.add(run=past(20), tenant_id=_tenant(2))
    watched = watch()
    assert "tenant_starving" in opened(watched)
    assert any(str(_tenant(2)) in f.message for f in watched.opened)
    tested.add(tenant_id=_tenant(2))
    tested.work()
    assert "tenant_starving" not in {f.rule for f in watch().findings}


def test_a_failing_queue_is_reported_with_its_rate(tested: Tested, watch: Any) -> None:
    for _ in range(30):
        tested.add("raise.terminal")
    tested.work()
    found = {f.level: f for f in watch().opened if f.rule == "high_error_rate"}
    assert set(found) == {"high", "page"} and found["high"].observed == 1.0


def test_an_old_snapshot_and_a_silent_redis_are_nobodys_and_reported(tested: Tested) -> None:
    rules = RULES.model_copy(update={"tier": RULES.tier.model_copy(update={"snapshot_seconds": 1e-6})})
    with db.connect(tested.url, "queue") as reader:
        reader.execute("begin isolation level repeatable read")
        reader.execute("select 1 from jobs limit 1")
        watched = alerts.watch(tested.url, "redis://127.0.0.1:1/0", rules, ())
    assert {"old_snapshot", "redis_drift"} <= opened(watched, None)
    assert None not in {f.queue for f in alerts.watch(tested.url, tested.redis_url, RULES, ()).findings}


def test_dead_rows_of_every_table_are_counted(tested: Tested) -> None:
    names = {t.name for t in health.look(tested.url, None, RULES).tables}
    assert names == {"jobs", "job_logs", "dead_letter_jobs"}


def test_an_unreachable_queue_is_an_error_and_not_an_empty_queue() -> None:
    with pytest.raises(ConnectionFailed):
        health.look("postgresql://nobody@127.0.0.1:1/none", None, RULES)


# -- the life of an alert --------------------------------------------------------------------------


def test_an_alert_opens_once_closes_by_itself_and_opens_anew(tested: Tested, watch: Any) -> None:
    job = tested.add(run=past(10))
    assert "standing_still" in opened(watch())
    assert watch().opened == []
    tested.change("update jobs set status = 'cancelled' where id = %s", job)
    assert "standing_still" in {a.rule for a in watch().closed}
    assert watch().closed == []
    tested.add(run=past(10))
    assert "standing_still" in opened(watch())
    rows = tested.rows("select closed is null from queue_alerts where rule = 'standing_still' order by opened")
    assert rows == [(False,), (True,)]


def test_two_watchers_at_once_open_an_alert_once(tested: Tested) -> None:
    tested.add(run=past(10))
    threads = [
        threading.Thread(target=alerts.watch, args=(tested.url, tested.redis_url, RULES, ["webhook"])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tested.one("select count(*) from queue_alerts where rule = 'standing_still'") == 1
    outbox = "select count(*) from penguin.alert_notifications as n join queue_alerts as a on a.id = n.alert_id "
    assert tested.one(outbox + "where rule = 'standing_still'") == 1


def test_a_queue_has_one_sample_a_minute_however_often_one_looks(tested: Tested, watch: Any) -> None:
    tested.add(run=past(1))
    for _ in range(3):
        watch()
    minutes = tested.one("select count(distinct sampled) from queue_health")
    assert tested.one("select count(*) from queue_health where queue_name = %s", QUEUE) == minutes <= 2
    assert tested.one("select count(*) from queue_health") == minutes * tested.one("select count(*) from job_queues")


def test_samples_leave_after_their_retention(tested: Tested, watch: Any) -> None:
    tested.change("insert into queue_health (queue_name, sampled) values (%s, now() - interval '91 days')", QUEUE)
    watch()
    assert tested.one("select count(*) from queue_health where sampled < now() - interval '90 days'") == 0


def test_a_backlog_that_lasts_is_known_from_the_samples(tested: Tested, watch: Any) -> None:
    tested.producer.enqueue_many(_new() for _ in range(1_100))
    assert "queue_backlog" not in opened(watch())
    tested.change("delete from queue_health")
    for minute in range(1, 11):
        tested.change(
            "insert into queue_health (queue_name, sampled, pending_jobs, metadata) "
            "values (%s, now() - %s * interval '1 minute', 1100, '{\"lanes\": {}}')", QUEUE, minute,
        )  # fmt: skip
    assert "queue_backlog" in opened(watch())


def test_the_dashboard_agrees_with_what_happened(tested: Tested) -> None:
    for _ in range(10):
        tested.add()
    tested.add("raise.terminal")
    tested.work()
    tested.add(run=past(5))
    row = tested.one(
        "select waiting, running, failed_1h, failure_rate_5m, dead_letter_open, throughput_per_minute, colour, "
        "duration_ms_p95 is not null and wait_ms_p95 is not null "
        "from queue_health_dashboard where queue_name = %s", QUEUE,
    )  # fmt: skip
    assert [float(v) if i in (3, 5) else v for i, v in enumerate(row)] == [
        1, 0, 1, pytest.approx(1 / 11, abs=1e-4), 1, pytest.approx(2.2), "green", True,
    ]  # fmt: skip


# -- telling people --------------------------------------------------------------------------------


@dataclass
class Receiver:
    """An HTTP server that keeps what it gets and answers as it is told."""

    status: int = 204
    got: list[Any] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.got.append(body)
            self.send_response(made.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}/hooks/very-secret"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


class MailServer:
    """Enough of SMTP to take mail on one connection after another: in clear, after STARTTLS, or in TLS at once."""

    def __init__(
        self,
        *,
        refuses: bool = False,
        certificate: Path | None = None,
        tls_at_once: bool = False,
        password: str | None = None,
    ) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.mails: list[str] = []
        self.passwords: list[str] = []
        """Passwords that were sent, each with how: in TLS or in clear."""
        self._refuses = refuses
        self._tls_at_once = tls_at_once
        self._password = password
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._context.load_cert_chain(certificate)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with contextlib.suppress(OSError), connection:  # a client that refuses our certificate goes away
                    secured = self._secured(connection) if self._tls_at_once else connection
                    while (again := self._converse(secured)) is not None:
                        secured = again

    def _secured(self, connection: socket.socket) -> socket.socket:
        assert self._context is not None
        return self._context.wrap_socket(connection, server_side=True)

    def _converse(self, connection: socket.socket) -> socket.socket | None:
        """Until the end, or until the client has asked for TLS: then the connection with it."""
        in_tls = isinstance(connection, ssl.SSLSocket)
        with connection.makefile("rw", newline="") as lines:

            def say(*texts: str) -> None:
                lines.write("".join(text + "\r\n" for text in texts))
                lines.flush()

            if not in_tls or self._tls_at_once:
                say("220 here")
            for line in lines:
                word = line.split()[0].upper() if line.split() else ""
                if word == "EHLO":
                    offers = ["STARTTLS"] if self._context and not in_tls else []
                    offers += ["AUTH PLAIN"] if self._password else []
                    say("250-here", *(f"250-{offer}" for offer in offers), "250 fine")
                elif word == "STARTTLS":
                    say("220 go on")
                    return self._secured(connection)
                elif word == "AUTH":
                    given = base64.b64decode(line.split()[2]).decode().split("\0")[2]
                    self.passwords.append(f"{given} in {'TLS' if in_tls else 'clear'}")
                    say("235 welcome" if given == self._password else f"535 no {given} here")
                elif word == "DATA":
                    say("354 go on")
                    mail = []
                    while (text := lines.readline()) not in (".\r\n", ""):
                        mail.append(text)
                    self.mails.append("".join(mail))
                    say("250 taken")
                elif word == "RCPT" and self._refuses:
                    say("550 no such person")
                elif word == "QUIT":
                    say("221 bye")
                    break
                else:
                    say("250 fine")
        return None

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost that nobody but itself has signed, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate of the mail server and is not installed")
    path = tmp_path_factory.mktemp("mail") / "server.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def states(receiver: Receiver) -> list[str]:
    return [a["state"] for body in receiver.got for a in body["alerts"] if a["rule"] == "standing_still"]


def hurry(tested: Tested) -> None:
    """Lets the pause before the next attempt pass."""
    tested.change("update penguin.alert_notifications set next_attempt = now()")


def test_an_alert_is_told_when_it_opens_by_the_hour_and_when_it_closes(
    tested: Tested, watch: Any, receiver: Receiver
) -> None:
    channels = notify.Channels(webhook=receiver.url)
    job = tested.add(run=past(10))
    for _ in range(3):
        watch(*channels.names)
        notify.deliver(tested.url, channels)
    assert states(receiver) == ["opened"]
    tested.change("update queue_alerts set last_notified = now() - interval '61 minutes'")
    for _ in range(3):
        watch(*channels.names)
        notify.deliver(tested.url, channels)
    assert states(receiver) == ["opened", "reminder"]
    tested.change("update jobs set status = 'cancelled' where id = %s", job)
    for _ in range(2):
        watch(*channels.names)
        notify.deliver(tested.url, channels)
    assert states(receiver) == ["opened", "reminder", "closed"]
    alert = next(a for a in receiver.got[0]["alerts"] if a["rule"] == "standing_still")
    assert (alert["queue"], alert["level"], alert["threshold"]) == (QUEUE, "page", 300)
    assert alert["runbook"] == "docs/runbooks/queue-alerts.md#standing_still"


def test_a_crash_between_recording_and_telling_loses_nothing(tested: Tested, watch: Any, receiver: Receiver) -> None:
    tested.add(run=past(10))
    watch("webhook")  # and then the daemon dies
    assert states(receiver) == []
    notify.deliver(tested.url, notify.Channels(webhook=receiver.url))
    assert states(receiver) == ["opened"]


def test_a_crash_between_telling_and_noting_it_tells_again_under_the_same_id(
    tested: Tested, watch: Any, receiver: Receiver
) -> None:
    tested.add(run=past(10))
    watch("webhook")
    channels = notify.Channels(webhook=receiver.url)
    notify.deliver(tested.url, channels)
    tested.change("update penguin.alert_notifications set delivered = null")
    notify.deliver(tested.url, channels)
    assert states(receiver) == ["opened"]  # the pause after the attempt
    hurry(tested)
    notify.deliver(tested.url, channels)
    assert states(receiver) == ["opened", "opened"]
    first, second = receiver.got[0]["alerts"], receiver.got[1]["alerts"]
    assert [a["id"] for a in first] == [a["id"] for a in second]


def test_a_receiver_that_fails_is_tried_again_holds_no_other_up_and_its_secret_is_kept(
    tested: Tested, watch: Any, receiver: Receiver
) -> None:
    receiver.status = 500
    with socket.create_server(("127.0.0.1", 0)) as probe:
        closed = probe.getsockname()[1]
    mail = MailServer()
    channels = notify.Channels(
        webhook=receiver.url,
        slack=f"http://127.0.0.1:{closed}/services/very-secret",
        smtp=f"smtp://127.0.0.1:{mail.port}",
        recipients=("ops@penguin.example",),
    )
    tested.add(run=past(10))
    watch(*channels.names)
    done = {d.channel: d for d in notify.deliver(tested.url, channels)}
    mail.close()
    assert done["webhook"].error == "The webhook at 127.0.0.1 answered 500; the alert is sent again later."
    assert "cannot be reached (ConnectionRefusedError)" in (done["slack"].error or "")
    assert done["email"].error is None and len(mail.mails) == 1
    with db.connect(tested.url, "queue", role="pm_worker") as connection:
        undelivered = notify.waiting(connection)
    assert {w["channel"] for w in undelivered} == {"webhook", "slack"}
    assert "secret" not in str(undelivered) + str(done)
    receiver.status = 200
    hurry(tested)
    notify.deliver(tested.url, notify.Channels(webhook=receiver.url))
    assert states(receiver) == ["opened", "opened"]
    assert (
        tested.one("select count(*) from penguin.alert_notifications where channel = 'webhook' and delivered is null")
        == 0
    )


def test_what_cannot_be_delivered_for_a_day_is_given_up(tested: Tested, watch: Any, receiver: Receiver) -> None:
    receiver.status = 500
    tested.add(run=past(10))
    watch("webhook")
    tested.change("update penguin.alert_notifications set made = now() - interval '25 hours'")
    notify.deliver(tested.url, notify.Channels(webhook=receiver.url))
    assert tested.one("select count(*) from penguin.alert_notifications where given_up is null") == 0


def test_a_mail_says_what_where_and_since_when(tested: Tested, watch: Any) -> None:
    mail = MailServer()
    tested.add(run=past(10))
    watch("email")
    channels = notify.Channels(smtp=f"smtp://127.0.0.1:{mail.port}", recipients=("a@b.example", "c@d.example"))
    (done,) = notify.deliver(tested.url, channels)
    mail.close()
    assert done.error is None
    (text,) = mail.mails
    assert f"[PAGE] {QUEUE}: standing_still: 1 job due" in text.replace("\r\n ", " ")
    assert "To: a@b.example, c@d.example" in text and "docs/runbooks/queue-alerts.md#standing_still" in text


def test_a_mail_server_that_refuses_is_told_of_by_its_code(tested: Tested, watch: Any) -> None:
    mail = MailServer(refuses=True)
    tested.add(run=past(10))
    watch("email")
    channels = notify.Channels(smtp=f"smtp://127.0.0.1:{mail.port}", recipients=("a@b.example",))
    (done,) = notify.deliver(tested.url, channels)
    mail.close()
    assert done.failed and "did not take it (550)" in (done.error or "")


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_mail_goes_in_tls_and_with_the_password(
    tested: Tested, watch: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    mail = MailServer(certificate=certificate, tls_at_once=scheme == "smtps", password="hush & hush")
    tested.add(run=past(10))
    watch("email")
    url = f"{scheme}://ops:hush%20%26%20hush@localhost:{mail.port}"
    (done,) = notify.deliver(tested.url, notify.Channels(smtp=url, recipients=("a@b.example",)))
    mail.close()
    assert done.error is None and len(mail.mails) == 1
    assert mail.passwords == ["hush & hush in TLS"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("password", "did not accept the user and password (535)"),
        ("certificate", "has a certificate that was refused (self-signed certificate)"),
        ("name", "has a certificate that was refused (IP address mismatch, certificate is not valid for '127.0.0.1'.)"),
        ("clear", "offers no TLS, so the password was not sent"),
    ],
)
def test_a_mail_that_cannot_be_sent_safely_waits_and_arrives_when_it_can(
    tested: Tested, watch: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    """What is wrong is said in a sentence without a secret; the alert stays in the outbox and is tried again."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    if fault == "certificate":
        monkeypatch.delenv("SSL_CERT_FILE")
    mail = MailServer(certificate=None if fault == "clear" else certificate, password="hush")
    tested.add(run=past(10))
    watch("email")
    host, word = "127.0.0.1" if fault == "name" else "localhost", "wrong-hush" if fault == "password" else "hush"
    wrong = notify.Channels(smtp=f"smtp://ops:{word}@{host}:{mail.port}", recipients=("a@b.example",))
    (done,) = notify.deliver(tested.url, wrong)
    mail.close()
    assert done.arrived == 0 and mail.mails == []
    assert mail.passwords == (["wrong-hush in TLS"] if fault == "password" else [])
    assert done.error == f"The mail server {host} {said}; the alert is sent again later."
    with db.connect(tested.url, "queue", role="pm_worker") as connection:
        (line,) = notify.waiting(connection)
    assert line["waiting"] == done.failed and line["last_error"] == done.error and "hush" not in str(line)
    assert notify.deliver(tested.url, wrong) == []  # not before its pause is over
    hurry(tested)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    mended = MailServer(certificate=certificate, password="hush")
    right = notify.Channels(smtp=f"smtp://ops:hush@localhost:{mended.port}", recipients=("a@b.example",))
    (done,) = notify.deliver(tested.url, right)
    mended.close()
    assert done.error is None and len(mended.mails) == 1 and "standing_still" in mended.mails[0]


def test_slack_gets_lines_that_cannot_call_anybody(tested: Tested, watch: Any, receiver: Receiver) -> None:
    tested.add(run=past(10))
    watch("slack")
    tested.change("update queue_alerts set message = 'an error named <!channel> & co'")
    notify.deliver(tested.url, notify.Channels(slack=receiver.url))
    assert "&lt;!channel&gt; &amp; co" in receiver.got[0]["text"]


# -- what people see -------------------------------------------------------------------------------


def test_alerts_are_listed_and_shown_beside_the_queue(
    tested: Tested, watch: Any, settings_env: dict[str, str], tmp_path: Path
) -> None:
    env = settings_env | {"PENGUIN_REDIS_URL": tested.redis_url or ""}
    assert told(["alerts"], env)[2].strip() == "No alert is open."
    tested.add(run=past(10))
    watch("webhook")
    code, output, errors = told(["alerts"], env)
    assert code == 0 and "standing_still" in output and "1 job due" in output
    assert "webhook: " in errors and "not sent yet" in errors
    listed = json.loads(told(["alerts", "--json"], env)[1])
    assert {a["rule"] for a in listed["alerts"]} >= {"standing_still"}
    stats = {row["queue"]: row for row in json.loads(told(["stats", "--json"], env)[1])}
    assert "standing_still (page)" in stats[QUEUE]["alerts"] and stats["billing-sync"]["alerts"] == ""


def _new(**more: Any) -> NewJob:
    return NewJob(QUEUE, "noop", {}, **more)


def _tenant(number: int) -> UUID:
    return UUID(int=number)


def test_a_finding_needs_no_record_to_be_judged(tested: Tested) -> None:
    tested.add(run=past(10))
    found = judge_all(health.look(tested.url, tested.redis_url, RULES), RULES)
    assert "standing_still" in {f.rule for f in found}
    assert tested.one("select count(*) from queue_alerts") == 0
