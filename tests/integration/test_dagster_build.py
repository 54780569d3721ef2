"""A run of the warehouse in Dagster, on real servers: what it builds, and what it says of every asset."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from test_build import NOTE, Warehouse

from penguin_pipelines.lib import build, dbt
from penguin_pipelines.resources import TierResource

OPEN = """
insert into raw_content.email_opens (id, tenant_id, storage_key, event_key, opened, user_agent, is_bot)
select 9000, tenant_id, storage_key, 'one more', sent + interval '2 hours', 'Thunderbird', false
from raw_content.email_messages where storage_key = %(key)s
"""


# What each invariant is there to find, all of it at once. None of it is a slice, so a build would not look.
DAYS = ("step", "campaign", "mailbox", "address", "warmup")
FACTS = dict(zip(DAYS, ("sequence_step", "campaign", "mailbox", "infrastructure", "warmup"), strict=True))
OLD = "activity_date < current_date - 9"
WRONG = {
    **{
        f"{n}_days_become_final": f"update marts.{f}_analytics set is_final = false where {OLD}"
        for n, f in FACTS.items()
    },
    **{
        f"{n}_months_equal_their_days": f"update marts.{FACTS[n]}_analytics_monthly set sent = sent + 1"
        for n in DAYS[:4]
    },
    "addresses_equal_mailboxes": "update marts.infrastructure_analytics set sent = 9 where tenant_id is not null",
    "campaigns_equal_steps": "update marts.campaign_analytics set replied = replied + 1",
    "closed_windows_still_agree": "update marts.mailbox_analytics set sent = sent + 1",
    "costs_of_an_address_add_up": "update marts.infrastructure_analytics set ip_cost = ip_cost + 0.01",
    "events_are_classified": "update intermediate.int_engagement_events set rule = 'guess' where event_key = 'o4'",
    "idle_rows_stand_alone": f"update marts.infrastructure_analytics set sent = 1 where tenant_id is null and {OLD}",
    "leads_equal_messages": "update marts.lead_analytics set replied = replied + 1",
    "mailboxes_equal_campaigns_and_one_to_one": "update marts.mailbox_analytics set unsubscribed = unsubscribed + 1",
    "messages_have_one_outcome": "update intermediate.int_messages set company_id = null where storage_key <> 'm200'",
    "no_message_waits_too_long": "update intermediate.int_messages set delivered = 0 where storage_key = 'm200'",
    "revenue_balances": "update intermediate.int_mrr_changes set mrr_cents = mrr_cents + 1",
    "tenant_views_are_walls": "alter view tenant.campaign_performance reset (security_barrier)",
    "usage_windows_do_not_overlap": "update marts.billing_analytics set period_end = period_end + interval '1 day'",
}


class Here(TierResource):
    """The warehouse of a test."""

    address: str
    folder: str

    @property
    def url(self) -> str:
        return self.address

    @property
    def home(self) -> Path:
        return Path(self.folder)


@pytest.fixture
def runs(built: Warehouse) -> Runs:
    target = build.target_folder(built.home, built.url)
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(dbt.ensure_manifest(), target / "manifest.json")  # as a build leaves it; `built` is a copy of one
    return Runs(built)


class Runs:
    """Runs of the warehouse, or of a part of it, one after the other in one instance of Dagster."""

    def __init__(self, warehouse: Warehouse) -> None:
        from penguin_pipelines.definitions import defs

        self.instance = dg.DagsterInstance.ephemeral()
        olap = Here(tier="olap", address=warehouse.url, folder=str(warehouse.home))
        self.resources = {"olap": olap, "dbt_cli": defs.resources["dbt_cli"]}  # type: ignore[index]
        self.assets: Any = next(
            a
            for a in defs.assets or []
            if getattr(a, "op", None) and a.op.name == "dbt_warehouse"  # type: ignore[union-attr]
        )

    def run(self, selection: Any = None, recompute_days: int = 0) -> dg.ExecuteInProcessResult:
        job = dg.define_asset_job("some", selection or dg.AssetSelection.assets(self.assets))
        config = {"ops": {"dbt_warehouse": {"config": {"recompute_days": recompute_days}}}}
        resolved = dg.Definitions(assets=[self.assets], jobs=[job], resources=self.resources).resolve_job_def("some")
        return resolved.execute_in_process(run_config=config, instance=self.instance, raise_on_error=False)


def _made(result: dg.ExecuteInProcessResult) -> set[Any]:
    return {event.asset_key for event in result.get_asset_materialization_events()}


def _said(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {said.check_name: said for said in result.get_asset_check_evaluations()}


def test_a_run_builds_what_holds_rows_and_says_of_every_view_that_it_stands(built: Warehouse, runs: Runs) -> None:
    oids = _oids(built)
    proved, outdated = (
        dg.AssetCheckKey(dg.AssetKey(["intermediate", "int_messages"]), n) for n in ("outcomes", "workspace_and_day")
    )
    for key, project in ((proved, dbt.fingerprint()), (outdated, "another")):
        runs.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=key.asset_key, check_name=key.name, passed=True, metadata={"project": project}
            )
        )
    result = runs.run(recompute_days=3)
    assert result.success
    specs = runs.assets.specs_by_key
    standing = {key for key, spec in specs.items() if spec.kinds & {"view", "seed"}}
    observed = [event.asset_observation_data.asset_observation for event in result.get_asset_observation_events()]
    assert dg.AssetKey(["marts", "campaign_performance"]) in standing
    assert {o.asset_key for o in observed} == standing and len(observed) == len(standing)
    assert all((o.description or "").startswith("Stands as it was built") for o in observed)
    assert _made(result) == set(specs) - standing
    evaluated = {e.asset_check_key for e in result.get_asset_check_evaluations()}
    assert evaluated == {*runs.assets.check_keys, proved}, (
        "A unit test holds while the project is the one that it ran on."
    )
    assert _oids(built) == oids
    # Nothing waits now: every check says again what it said.
    again = runs.run()
    assert again.success and not _made(again)
    assert _said(again).keys() == _said(result).keys() - {proved.name}
    assert all(said.passed for said in (*_said(result).values(), *_said(again).values()))
    assert {s.description for s in _said(again).values()} == {"Nothing was touched since the evaluation before."}


def test_a_part_builds_what_was_touched_and_judges_what_it_can(built: Warehouse, runs: Runs) -> None:
    assert runs.run(recompute_days=3).success
    ((key, day, campaign, opens),) = built.rows(
        "select m.storage_key, m.activity_date, m.campaign_id, f.opens_total from intermediate.int_messages as m "
        "inner join marts.campaign_analytics as f using (tenant_id, campaign_id, activity_date) "
        "where m.delivered = 1 and m.opens_total = 0 and not m.is_warmup and m.activity_date < current_date - 2 "
        "order by m.storage_key limit 1"
    )
    with built.connect("pm_loader") as connection:
        connection.execute(NOTE, {"keys": [key]})
        connection.execute(OPEN, {"key": key})
    counted = (
        f"select opens_total from marts.campaign_analytics where activity_date = '{day}' and campaign_id = '{campaign}'"
    )
    names = ("int_engagement_events", "int_messages", "sequence_step_analytics", "campaign_analytics")
    keys = [k for k in runs.assets.specs_by_key if k.path[-1] in names]
    result = runs.run(dg.AssetSelection.assets(*keys))
    assert result.success and _made(result) == set(keys)
    assert built.rows(counted) == [(opens + 1,)]
    said = _said(result)
    assert said["campaigns_equal_steps"].description is None and said["campaigns_equal_steps"].passed
    left = said["relationships_campaign_analytics_campaign_id__campaign_id__ref_dim_campaigns_"]
    assert left.passed and (left.description or "").startswith("As before: ")
    assert built.rows("select count(*) > 0 from ops.touched_slices") == [(True,)], "A part consumes nothing."


def test_checks_by_themselves_look_at_every_row_and_each_invariant_can_fail(built: Warehouse, runs: Runs) -> None:
    own = {path.stem for path in (dbt.PROJECT / "tests").glob("*.sql")}
    assert {name for name in WRONG if not name.endswith(("become_final", "equal_their_days"))} == own
    chosen = dg.AssetSelection.checks(*(key for key in runs.assets.check_keys if key.name in WRONG))
    result = runs.run(chosen)
    assert result.success and not _made(result)
    assert {name: s.passed for name, s in _said(result).items()} == dict.fromkeys(WRONG, True)
    with psycopg.connect(built.url) as connection:
        connection.execute("set session_replication_role = replica")  # the trigger of closed windows would refuse
        for change in WRONG.values():
            assert connection.execute(change).rowcount != 0, change  # type: ignore[call-overload]
    result = runs.run(chosen)
    assert not result.success
    assert {name: s.passed for name, s in _said(result).items()} == dict.fromkeys(WRONG, False)


def _oids(built: Warehouse) -> dict[str, int]:
    """Version of the definition of every view: replacing one writes it anew."""
    query = "select ev_class::regclass::text, r.xmin::text::bigint from pg_rewrite as r where ev_class >= 16384"
    return {str(name): int(version) for name, version in built.rows(query)}
