"""The platform's own jobs on real tables: reputation by what lists say, expiry of content, who works analytics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
import pytest
from pydantic import ValidationError
from servers import Databases
from typer.testing import CliRunner

from penguin_pipelines import analytics_worker
from penguin_pipelines.cli import app
from penguin_pipelines.lib.queue import builtin, handlers, probes
from penguin_pipelines.lib.queue.handlers import Connections, Context
from penguin_pipelines.lib.queue.model import TerminalError, failure_of

SCORES = {"203.0.113.1": (90, 100), "203.0.113.2": (80,), "203.0.113.3": (100,), "203.0.113.4": ()}
WORLD = """
insert into vps_instances (id, hostwinds_instance_id, status) values (md5('v')::uuid, 'hw-1', 'active'),
  (md5('w')::uuid, 'hw-2', 'active');
insert into smtp_ip_addresses (id, vps_instance_id, ip_address, status, reputation_state, reputation_score)
select md5('ip' || n)::uuid, md5('v')::uuid, '203.0.113.' || n, 'warmed', 'good', 90 from generate_series(1, 4) n;
"""
CHECK = """
insert into blacklist_checks (check_type, smtp_ip_address_id, check_value, blacklist_name, is_listed, checked)
values ('ip', md5('ip' || %s)::uuid, '203.0.113.' || %s, %s, %s, now() - %s::interval)
"""
TENANTS = {name: uuid4() for name in ("free", "held", "longer")}
POLICIES = """
insert into retention_policies (tenant_id, content_type, retention_days, auto_archive, auto_delete, legal_hold)
values (null, 'email', 100, true, true, false), (%(held)s, 'email', 100, true, true, true),
  (%(longer)s, 'email', 5000, true, true, false), (null, 'export', 30, false, false, false)
"""
OBJECT = """
insert into content_objects (storage_key, tenant_id, object_kind, raw_size_bytes, created, expires, duplicate_of)
values (%s, %s, %s, 10, now() - interval '200 days', now() + %s::interval, %s)
"""


class Outside:
    """A probe of which a test says what it answers."""

    def __init__(self) -> None:
        self.listed: dict[str, dict[str, str | None]] = {}

    def scores(self, address: str) -> Sequence[float]:
        return SCORES[address]

    def listings(self, address: str) -> Mapping[str, str | None]:
        return self.listed.get(address, {})

    def server(self, instance: str) -> probes.Server | None:
        return probes.Server("scheduled_decommission", Decimal("12.50")) if instance == "hw-1" else None


@pytest.fixture
def outside() -> Iterator[Outside]:
    probe = Outside()
    probes.use(probe)
    yield probe
    probes.use(None)


def context(tiers: Databases, tenant: UUID | None = None) -> Context:
    urls = {tier: tiers[tier] for tier in ("oltp", "content", "queue")}
    return Context(uuid4(), "q", "t", tenant, None, None, 1, 3, Connections(urls), lambda *_: None)


def states(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select reputation_score, reputation_state, last_reputation_check is not null "
            "from smtp_ip_addresses order by ip_address"
        ).fetchall()


def test_reputation_follows_the_latest_word_of_each_list_and_of_providers(tiers: Databases, outside: Outside) -> None:
    with psycopg.connect(tiers["oltp"]) as connection:
        connection.execute(WORLD)
        listings = [
            (1, "a", True, "3 days"), (1, "a", False, "1 day"), (2, "a", True, "1 day"), (2, "b", True, "1 day"),
            (3, "zen.spamhaus.org", True, "1 day"),
        ]  # fmt: skip
        for number, *rest in listings:
            connection.execute(CHECK, [number, number, *rest])
    probes.use(None)
    builtin.reputation(builtin.Nothing(), context(tiers))
    # Nobody was asked, so scores stand; the major list alone makes an address critical.
    assert states(tiers["oltp"]) == [
        (90, "good", False),
        (90, "good", False),
        (90, "critical", False),
        (90, "good", False),
    ]
    probes.use(outside)
    said = builtin.reputation(builtin.Nothing(), context(tiers))
    assert said == {"addresses": 3, "critical": 1}
    # 95; 80 less twice 10; 100 less 10 and on a major list; nobody knows the fourth.
    assert states(tiers["oltp"]) == [
        (95, "good", True),
        (60, "poor", True),
        (90, "critical", True),
        (90, "good", False),
    ]
    probes.use(None)
    assert builtin.reputation(builtin.Nothing(), context(tiers)) == {"addresses": 0, "critical": 0}


def test_a_look_up_leaves_a_row_only_where_a_state_changed(tiers: Databases, outside: Outside) -> None:
    with psycopg.connect(tiers["oltp"]) as connection:
        connection.execute(WORLD)
    outside.listed = {"203.0.113.1": {"a": "spam", "b": None}}
    changes = [builtin.blacklist(builtin.Nothing(), context(tiers)) for _ in range(2)]
    outside.listed = {"203.0.113.1": {"b": None}}
    changes.append(builtin.blacklist(builtin.Nothing(), context(tiers)))
    assert [c and c["changes"] for c in changes] == [2, 0, 1]
    with psycopg.connect(tiers["oltp"]) as connection:
        last = connection.execute(
            "select blacklist_name, is_listed from blacklist_checks order by checked desc limit 1"
        )
        assert last.fetchall() == [("a", False)]


def test_servers_follow_their_provider_and_one_that_it_does_not_know_stays(tiers: Databases, outside: Outside) -> None:
    with psycopg.connect(tiers["oltp"]) as connection:
        connection.execute(WORLD)
    assert builtin.servers(builtin.Nothing(), context(tiers)) == {"changed": 1, "unknown": ["hw-2"]}
    assert builtin.servers(builtin.Nothing(), context(tiers)) == {"changed": 0, "unknown": ["hw-2"]}


@pytest.mark.parametrize("work", [builtin.blacklist, builtin.servers])
def test_without_a_probe_nothing_is_made_up(tiers: Databases, work: object) -> None:
    probes.use(None)
    with pytest.raises(TerminalError, match="No probe"):
        work(builtin.Nothing(), context(tiers))  # type: ignore[operator]


def filled(url: str) -> None:
    free, held, longer = TENANTS.values()
    with psycopg.connect(url) as connection:
        connection.execute(POLICIES, TENANTS)
        for number in range(5):
            connection.execute(OBJECT, [f"old{number}", free, "email", "-1 day", None])
        others = [("fresh", free, "email", "1 day", None), ("never", free, "email", None, None),
                  ("held", held, "email", "-1 day", None), ("longer", longer, "email", "-1 day", None),
                  ("export", free, "export", "-1 day", None), ("no policy", free, "notification", "-1 day", None),
                  ("copy", free, "email", "1 day", "old4")]  # fmt: skip
        for other in others:
            connection.execute(OBJECT, other)
        connection.execute(
            "insert into email_content (storage_key, tenant_id, content_text) values ('old0', %s, 'x')", [free]
        )


def kept(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {key for (key,) in connection.execute("select storage_key from content_objects where not is_archived")}


@pytest.mark.parametrize("tenant", [None, TENANTS["free"]])
def test_cleanup_deletes_what_is_past_its_retention_and_nothing_that_is_held(
    tiers: Databases, tenant: UUID | None
) -> None:
    filled(tiers["content"])
    before = kept(tiers["content"])
    job = context(tiers, tenant)
    assert builtin.delete_expired(builtin.Expiry(dry_run=True), job) == {"objects": 4, "bytes": 40, "dry_run": True}
    assert kept(tiers["content"]) == before
    assert builtin.delete_expired(builtin.Expiry(most=3, batch=2), job) == {"objects": 3, "bytes": 30, "dry_run": False}
    assert builtin.delete_expired(builtin.Expiry(batch=1), job) == {"objects": 1, "bytes": 10, "dry_run": False}
    assert before - kept(tiers["content"]) == {"old0", "old1", "old2", "old3"}
    with psycopg.connect(tiers["content"]) as connection:
        assert connection.execute("select count(*) from email_content").fetchone() == (0,)


def test_a_job_of_one_tenant_leaves_the_others_alone_and_archiving_deletes_nothing(tiers: Databases) -> None:
    filled(tiers["content"])
    before = kept(tiers["content"])
    other = builtin.archive(builtin.Expiry(), context(tiers, uuid4()))
    assert other is not None and other["objects"] == 0
    builtin.archive(builtin.Expiry(), context(tiers))
    assert before - kept(tiers["content"]) == {f"old{number}" for number in range(5)}


def test_a_misspelt_limit_is_refused() -> None:
    with pytest.raises(ValidationError):
        builtin.Expiry.model_validate({"dryrun": True})


def test_a_worker_leaves_analytics_jobs_to_dagster_unless_told(
    settings_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Those of the module for analytics are known to this process, which is not the worker's own.
    own = {name: known for name, known in handlers._HANDLERS.items() if known.run.__module__ == builtin.__name__}
    monkeypatch.setattr(handlers, "_HANDLERS", own)
    answer = CliRunner().invoke(app, ["queue", "work", "--queue", "analytics-processing", "--until-empty"])
    assert answer.exit_code != 0 and "--with-analytics" in answer.output + str(answer.exception)


def test_an_analytics_job_without_its_warehouse_is_tried_again(
    settings_env: dict[str, str], tiers: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENGUIN_OLAP_URL", "postgresql://nobody:hush@127.0.0.1:1/none")
    with pytest.raises(analytics_worker.AttemptFailed) as raised:
        analytics_worker.run(analytics_worker.Slot(), context(tiers))
    failure = failure_of(raised.value)
    assert not failure.terminal and failure.message.startswith("ConnectionFailed: ") and "hush" not in failure.message
