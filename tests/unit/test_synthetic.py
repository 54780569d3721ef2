"""The generator without a database: reproducible rows, the shape of a week, and what the words must agree with."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from penguin_pipelines.errors import PenguinError
from penguin_pipelines.synthetic import Options, clock, events, history, ids, plan, stream, text, traffic
from penguin_pipelines.synthetic.entities import Scene
from penguin_pipelines.synthetic.people import Leads
from penguin_pipelines.synthetic.traffic import Batch
from penguin_pipelines.synthetic.write import Block, records

PRESENT = clock.micros(datetime(2026, 3, 18, 15, 30, tzinfo=UTC))
DAYS, MESSAGES = 60, 4_000


def story(seed: int = 7) -> tuple[np.random.Generator, Scene, Batch, Leads]:
    """All messages of a small history as one batch."""
    rng = np.random.default_rng(seed)
    low = PRESENT - DAYS * clock.DAY
    scene = Scene(rng, low, PRESENT, 3, MESSAGES)
    world = history._found(scene)
    planned, _, owners = plan.make(rng, world, MESSAGES, low, PRESENT)
    leads = history.new_leads(rng, owners, 46_656)
    return rng, scene, traffic.make_batch(rng, world, leads, planned, PRESENT, last=True), leads


@pytest.fixture(scope="module")
def batch() -> Batch:
    return story()[2]


def everything(seed: int) -> list[Block]:
    rng, scene, made, leads = story(seed)
    founded = [records("oltp", table, rows) for table, rows in scene.records.items()]
    return founded + list(stream.batch_blocks(rng, made, leads))


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert everything(3) == everything(3)


def test_another_seed_gives_other_rows() -> None:
    assert {b.table: b.data for b in everything(3)} != {b.table: b.data for b in everything(4)}


def test_exactly_the_wanted_number_of_messages_is_planned(batch: Batch) -> None:
    assert batch.n == MESSAGES
    assert (np.diff(batch.plan.time) >= 0).all()


def test_nothing_lies_in_the_future(batch: Batch) -> None:
    assert batch.plan.time.max() < PRESENT
    assert batch.accepted[batch.delivered].max() < PRESENT


def local(batch: Batch) -> np.ndarray:
    return (batch.plan.time + clock.OFFSETS[batch.zone])[batch.plan.kind != plan.WARMUP]


def test_weekdays_carry_far_more_mail_than_weekends(batch: Batch) -> None:
    per_day = np.bincount(clock.weekday(local(batch)), minlength=7)
    assert per_day[:5].min() > 2.5 * per_day[5:].max()


def test_mail_leaves_in_working_hours(batch: Batch) -> None:
    hour = local(batch) % clock.DAY // clock.HOUR
    assert ((hour >= 7) & (hour < 19)).mean() > 0.9


def test_volume_ramps_up(batch: Batch) -> None:
    halves = np.bincount(batch.plan.time > PRESENT - DAYS * clock.DAY // 2)
    assert halves[1] > 1.5 * halves[0]


def test_mailbox_and_campaign_are_of_one_workspace() -> None:
    rng = np.random.default_rng(1)
    world = history._found(Scene(rng, PRESENT - DAYS * clock.DAY, PRESENT, 4, MESSAGES))
    planned, _, _ = plan.make(rng, world, MESSAGES, PRESENT - DAYS * clock.DAY, PRESENT)
    at = planned.campaign >= 0
    assert (world.box_company[planned.box[at]] == world.campaigns.company[planned.campaign[at]]).all()
    assert (world.box_company[planned.box] >= 0).all()


def test_nobody_is_mailed_again_after_a_bounce_an_answer_or_a_stop() -> None:
    _, _, made, _ = story()
    part = made.plan
    for lead in np.unique(part.lead[(part.outcome > 0) & (part.campaign >= 0)]):
        mine = part.outcome[(part.lead == lead) & (part.campaign >= 0)]
        assert (mine[:-1] == plan.NOTHING).all()


def test_all_states_and_contradictions_occur(batch: Batch) -> None:
    assert set(batch.state) == {traffic.QUEUED, traffic.LOST, traffic.FAILED, traffic.REJECTED, traffic.ACCEPTED}
    silent = (batch.state == traffic.ACCEPTED) & ~batch.delivered
    assert 0.03 < silent.mean() < 0.09
    assert set(batch.plan.outcome) == set(range(6))


def test_machines_open_within_two_seconds_and_people_later(batch: Batch) -> None:
    rng = np.random.default_rng(5)
    reachable = batch.alive & (batch.plan.kind != plan.WARMUP)
    opened, human = events.opens(rng, batch, reachable)
    delay = opened.time - batch.accepted[opened.at]
    machine = (opened.client == text.APPLE_AT) & (delay < 2 * clock.SECOND)
    assert machine.sum() == (opened.client == text.APPLE_AT).sum() > 0
    late_proxy = (opened.client == text.GOOGLE_AT) & (delay > clock.MINUTE)
    assert late_proxy.any()
    assert (human.time - batch.accepted[human.at]).min() > 2 * clock.SECOND
    pairs = np.diff(np.sort(human.time[np.lexsort((human.time, human.at))]))
    assert (pairs >= 0).all()


def test_scanners_follow_three_links_within_a_second() -> None:
    rng, _, made, leads = story()
    found, links = events.scanner_clicks(rng, made, leads, made.alive)
    for message in np.unique(found.at):
        mine = found.at == message
        assert len(set(links[mine])) == mine.sum() >= 3
        assert np.ptp(found.time[mine]) < clock.SECOND


@pytest.mark.parametrize("bounce", text.BOUNCES, ids=lambda b: b.code)
def test_each_bounce_text_agrees_with_its_permanence(bounce: text.Bounce) -> None:
    assert bounce.code in bounce.reason
    assert {"5": "hard", "4": "soft"}[bounce.code[0]] == bounce.permanence
    assert len(bounce.code) <= 20
    if bounce.reason[0] != bounce.code[0] or not bounce.reason[:3].isdigit():
        assert bounce.reason.startswith(bounce.code)  # a report of our own server has no reply code
    if bounce.code.startswith("5.7."):
        assert not bounce.suppresses


def test_bounce_texts_of_a_kind_are_of_that_kind() -> None:
    rng = np.random.default_rng(0)
    for kind, permanence in (("address", "hard"), ("policy", "hard"), ("temporary", "soft"), ("expired", "soft")):
        assert {text.BOUNCES[i].permanence for i in text.bounce_texts(rng, kind, 200)} == {permanence}


def test_uuids_are_valid_and_ordered_by_time() -> None:
    rng = np.random.default_rng(0)
    times = PRESENT + np.arange(50, dtype=np.int64) * clock.SECOND
    made = ids.uuids(rng, 50, times)
    assert made == sorted(made)
    assert {u[14] for u in made} == {"7"}
    assert {u[14] for u in ids.uuids(rng, 50)} == {"4"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (Options(tenants=0), "at least one tenant"),
        (Options(messages=-1), "cannot be -1"),
        (Options(days=0), "from 1 to 1000"),
        (Options(days=1001), "from 1 to 1000"),
        (Options(seed=-1), "seed"),
        (Options(as_of=datetime(2026, 1, 1)), "time zone"),  # noqa: DTZ001
    ],
)
def test_options_that_cannot_be_are_refused_with_a_sentence(options: Options, sentence: str) -> None:
    with pytest.raises(PenguinError, match=sentence):
        options.check()
