"""An independent recount of every counter, straight from the source tables, in pandas and plain loops.

It shares no code and no SQL with the warehouse, only the written rules (delivery and bounce exclude each other, a
click opens, machines do not count, repeats within ten seconds count once, silence of 72 hours means delivered) and the
list of known agents. Slow and simple on purpose. Not here: the comparison (test_end_to_end.py).
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import psycopg

AGENTS = Path(__file__).parent.parent / "dbt_project" / "seeds" / "known_agents.csv"
COUNTERS = [
    "sent",
    "delivered",
    "opened_tracked",
    "clicked_tracked",
    "replied",
    "bounced",
    "hard_bounced",
    "soft_bounced",
    "unsubscribed",
    "spam_complaints",
    "opens_total",
    "clicks_total",
    "opened_machine",
    "clicked_machine",
]
KINDS = ["open", "click", "reply"]
PROVIDERS = {
    "gmail.com": "gmail",
    "outlook.com": "microsoft",
    "hotmail.com": "microsoft",
    "yahoo.com": "yahoo",
    "icloud.com": "apple",
}
MINUTE, HOUR, DAY = 60, 3600, 86400
DELAYS = [MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE]
DELAYS += [n * HOUR for n in (1, 2, 3, 4, 6, 8, 12, 18, 24, 36)] + [n * DAY for n in (2, 3, 4, 5, 7, 10, 14, 30)]
NOBODY = "00000000-0000-0000-0000-000000000000"


Event = tuple[datetime, str, bool, Mapping[str, object]]
"""When, human, machine or unknown, whether it counts, and the row itself."""


def messages(content_url: str, as_of: datetime, *, warmup: bool = False) -> pd.DataFrame:
    """One row per outbound, sent campaign or one-to-one message with its keys and counters of 0 and 1; of warmup mail
    instead, if asked.

    `happened` lists what counts by the hour, as (hour, device, client, kind); `engaged_time` is the last engagement.
    """
    with psycopg.connect(content_url) as connection:
        connection.execute("set time zone 'UTC'")
        sent = _rows(connection, "select * from email_messages where direction = 'outbound' and message_type = 'email'")
        opens = _by_message(_rows(connection, "select * from email_opens"))
        clicks = _by_message(_rows(connection, "select * from email_clicks"))
        bounces = _by_message(_rows(connection, "select * from email_bounces"))
        replies = _by_message(_rows(connection, "select * from email_replies where not is_auto_reply"))
        unsubscribes = _by_message(_rows(connection, "select * from email_unsubscribes"))
        complaints = _by_message(_rows(connection, "select * from email_complaints"))
        partners = _by_message(_rows(connection, "select * from warmup_interactions"))
    counted = []
    for message in sent:
        if message["sent"] is None or message["is_warmup"] is not warmup:
            continue
        key = message["storage_key"]
        arrived = message["delivered"] or message["sent"]
        seen_opens = _classified(opens[key], "opened", arrived, bursts=False)
        seen_clicks = _classified(clicks[key], "clicked", arrived, bursts=True)
        answers = replies[key]
        if warmup:
            seen_opens += _by_partners(partners[key], "open")
            seen_clicks += _by_partners(partners[key], "click")
            answers = answers + [{**e, "replied": when} for when, _, _, e in _by_partners(partners[key], "reply")]
        outcome = _outcome(
            message, seen_opens, seen_clicks, bounces[key], answers, unsubscribes[key], complaints[key], as_of
        )
        engaged = [when for when, who, _, _ in seen_opens + seen_clicks if who != "machine"]
        first_answer = min((a["replied"] for a in answers), default=None)  # type: ignore[type-var]
        keys = {
            "tenant_id": str(message["tenant_id"]),
            "campaign_id": str(message["campaign_id"]) if message["campaign_id"] else None,
            "step_id": str(message["sequence_step_id"] or NOBODY),
            "mailbox_id": str(message["email_account_id"] or NOBODY),
            "ip_id": str(message["smtp_ip_address_id"] or NOBODY),
            "activity_date": message["sent"].date(),
            "lead_id": str(message["lead_id"]) if message["lead_id"] else None,
            "storage_key": key,
            "send_hour": message["sent"].hour,
            "provider": PROVIDERS.get(str(message["to_email"]).rpartition("@")[2], "other"),
            "open_delay": _delay(
                message, min((w for w, who, _, _ in seen_opens + seen_clicks if who != "machine"), default=None)
            ),
            "reply_delay": _delay(message, first_answer),
            "sent_time": message["sent"],
            "delivered_time": _delivered(message, outcome, engaged, answers, unsubscribes[key], complaints[key]),
            "bounced_time": _last_report(message, bounces[key])[0] if outcome["bounced"] else None,
            "engaged_time": max([*engaged, *([first_answer] if first_answer else [])], default=None),
            "happened": _happened(seen_opens, seen_clicks, first_answer),
        }
        counted.append({**keys, **outcome})
    return pd.DataFrame(counted)


def totals(frame: pd.DataFrame, keys: list[str]) -> dict[tuple[object, ...], tuple[int, ...]]:
    """Sums of all counters by the given keys; rows without a key (one-to-one mail has no campaign) are left out."""
    grouped = frame.dropna(subset=keys).groupby(keys)[COUNTERS].sum()
    return {key: tuple(int(v) for v in row) for key, row in zip(grouped.index, grouped.to_numpy(), strict=True)}


def leads(frame: pd.DataFrame, keys: list[str]) -> dict[tuple[object, ...], tuple[object, ...]]:
    """Points, first and last send and last engagement of each lead, in a campaign or over all, from campaign mail."""
    found: dict[tuple[object, ...], tuple[object, ...]] = {}
    for key, rows in frame.dropna(subset=["campaign_id", "lead_id"]).groupby(keys):
        sums = rows[COUNTERS].sum()
        points = 5 * sums.opened_tracked + 10 * sums.clicked_tracked + 15 * sums.replied
        points = max(0, min(100, points - 10 * sums.bounced - 50 * sums.spam_complaints))
        engaged = [when for when in rows.engaged_time if not pd.isna(when)]
        found[key] = (  # type: ignore[index]
            0 if sums.unsubscribed else int(points),
            rows.sent_time.min(),
            rows.sent_time.max(),
            max(engaged, default=None),
        )
    return found


def hours(frame: pd.DataFrame) -> dict[tuple[object, ...], tuple[int, ...]]:
    """Opens, clicks and first answers by tenant, campaign, hour, device and client."""
    found: defaultdict[tuple[object, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in frame.dropna(subset=["campaign_id"]).itertuples():
        for hour, device, client, kind in row.happened:  # type: ignore[attr-defined]
            found[row.tenant_id, row.campaign_id, hour, device, client][KINDS.index(kind)] += 1
    return {key: tuple(values) for key, values in found.items()}


def warmup_health(frame: pd.DataFrame) -> dict[tuple[object, ...], int | None]:
    """H2 of each mailbox and day with warmup mail, from the messages of its seven days."""
    days = frame.groupby(["tenant_id", "mailbox_id", "activity_date"])[COUNTERS].sum().reset_index()
    found: dict[tuple[object, ...], int | None] = {}
    for row in days.itertuples():
        since = row.activity_date - timedelta(days=6)  # type: ignore[operator]
        week = days[(days.mailbox_id == row.mailbox_id) & days.activity_date.between(since, row.activity_date)]
        key = (row.tenant_id, row.mailbox_id, row.activity_date)
        if len(week) < 3:
            found[key] = None
            continue
        sums = week[COUNTERS].sum()
        score = 100 - 10 * 100 * sums.bounced / sums.sent
        if sums.delivered:
            score += (
                20 * sums.opened_tracked + 10 * sums.clicked_tracked - 5000 * sums.spam_complaints
            ) / sums.delivered
        found[key] = math.floor(max(0, min(100, round(score, 9))))
    return found


def suppressed(content_url: str, frame: pd.DataFrame) -> dict[tuple[object, ...], tuple[object, ...]]:
    """Reason and moment by tenant and the message that caused it; `frame` holds every message that is no warmup.

    Generated bounces carry their code, so its digits tell whose fault it is: x.7.x is the sender's.
    """
    with psycopg.connect(content_url) as connection:
        connection.execute("set time zone 'UTC'")
        to = {r["storage_key"]: r["to_email"] for r in _rows(connection, "select * from email_messages")}
        codes = {(r["storage_key"], r["bounced"]): r for r in _rows(connection, "select * from email_bounces")}
        stops = defaultdict(list)
        for kind, column, table in (
            ("unsubscribe", "unsubscribed", "email_unsubscribes"),
            ("spam_complaint", "complained", "email_complaints"),
        ):
            for row in _rows(connection, f"select * from {table}"):
                stops[row["storage_key"]].append((row[column], kind))
    found: dict[tuple[object, ...], tuple[object, ...]] = {}
    for _, mail in frame.assign(to=frame.storage_key.map(to)).groupby(["tenant_id", "to"]):
        causes, history = [], []
        for message in mail.itertuples():
            key = message.storage_key
            causes += [(when, kind, key) for when, kind in stops[key]]
            if message.delivered:
                history.append((message.delivered_time, 0, key))
            if not message.bounced:
                continue
            code = str(codes[key, message.bounced_time]["bounce_code"])
            if code[0] == "5" and code[1:4] != ".7.":
                causes.append((message.bounced_time, "hard_bounce", key))
            reports = [r for (k, _), r in codes.items() if k == key and str(r["bounce_code"])[0] == "4"]
            history += [(r["bounced"], 1, key) for r in reports if str(r["bounce_code"])[1:4] != ".7."]
        row = 0
        for when, is_soft, key in sorted(history):
            row = row + 1 if is_soft else 0
            if row == 3:
                causes.append((when, "soft_bounce_limit", key))
        if causes:
            when, reason, key = min(causes)
            found[mail.tenant_id.iloc[0], key] = (reason, when)
    return found


def delays(frame: pd.DataFrame) -> dict[tuple[object, ...], int]:
    """Campaign messages by tenant, campaign, step, day, kind and class of the time to the first open and answer."""
    found: defaultdict[tuple[object, ...], int] = defaultdict(int)
    for row in frame.dropna(subset=["campaign_id"]).itertuples():
        for kind, delay in (("open", row.open_delay), ("reply", row.reply_delay)):
            if not pd.isna(delay):
                place = sum(delay >= bound for bound in DELAYS)
                found[row.tenant_id, row.campaign_id, row.step_id, row.activity_date, kind, place] += 1
    return dict(found)


def exposure(oltp_url: str, frame: pd.DataFrame, as_of: datetime) -> dict[tuple[object, ...], tuple[int, ...]]:
    """Leads exposed to, sent, delivered, and opening each e-mail step, by campaign and step."""
    with psycopg.connect(oltp_url) as connection:
        connection.execute("set time zone 'UTC'")
        steps = _rows(connection, "select * from campaign_sequence_steps where step_type = 'email' order by step_order")
        enrolments = _rows(connection, "select * from campaign_leads")
    order: defaultdict[str, list[str]] = defaultdict(list)
    for step in steps:
        order[str(step["campaign_id"])].append(str(step["id"]))
    mail: defaultdict[tuple[str, str], dict[str, list[bool]]] = defaultdict(dict)
    for row in frame.dropna(subset=["campaign_id", "lead_id"]).itertuples():
        if row.step_id in order[row.campaign_id]:
            seen = mail[row.campaign_id, row.lead_id].setdefault(row.step_id, [False, False])
            seen[0] |= bool(row.delivered)
            seen[1] |= bool(row.opened_tracked)
    waiting = {}
    for e in enrolments:
        is_open = e["completed"] is None and e["status"] in ("enrolled", "active", "paused")
        due = e["next_due"]
        waiting[str(e["campaign_id"]), str(e["lead_id"])] = is_open and (due is None or due > as_of)  # type: ignore[operator]
    found: defaultdict[tuple[object, ...], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for campaign, lead in waiting.keys() | mail.keys():
        got = mail.get((campaign, lead), {})
        furthest = max((order[campaign].index(step) + 1 for step in got), default=0)
        for place, step in enumerate(order[campaign], start=1):
            if place <= furthest or not waiting.get((campaign, lead), False):
                found[campaign, step][0] += 1
            if step in got:
                found[campaign, step][1] += 1
                found[campaign, step][2] += got[step][0]
                found[campaign, step][3] += got[step][1]
    return {key: tuple(values) for key, values in found.items()}


def comparison(frame: pd.DataFrame, counter: str) -> dict[tuple[object, ...], float | None]:
    """p of the two-proportion test of a counter over delivered, for each pair of campaigns of a tenant."""
    found: dict[tuple[object, ...], float | None] = {}
    sums = frame.dropna(subset=["campaign_id"]).groupby(["tenant_id", "campaign_id"])[COUNTERS].sum()
    for (tenant, a), first in sums.iterrows():  # type: ignore[misc]
        for (other, b), second in sums.iterrows():  # type: ignore[misc]
            if tenant != other or a >= b:
                continue
            n, m = first.delivered, second.delivered
            pooled = (first[counter] + second[counter]) / (n + m) if n + m else 0
            spread = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m)) if n and m else 0
            z = (first[counter] / n - second[counter] / m) / spread if spread else None
            found[a, b] = None if z is None else math.erfc(abs(z) / math.sqrt(2))
    return found


def _delay(message: Mapping[str, object], when: object) -> float | None:
    return None if when is None else (when - message["sent"]).total_seconds()  # type: ignore[operator]


def _happened(opens: list[Event], clicks: list[Event], answer: object) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for kind, events in (("open", opens), ("click", clicks)):
        for when, _, counts, event in events:
            if counts:
                client = event.get("mail_client") or "unknown"
                found.append((_hour(when), event.get("device_type") or "unknown", client, kind))
    if answer is not None:
        found.append((_hour(answer), "unknown", "unknown", "reply"))  # type: ignore[arg-type]
    return found


def _hour(when: datetime) -> datetime:
    return when.replace(minute=0, second=0, microsecond=0)


def _by_partners(interactions: Iterable[Mapping[str, object]], kind: str) -> list[Event]:
    return [(e["interacted"], "human", True, e) for e in interactions if e["interaction_type"] == kind]  # type: ignore[misc]


def _outcome(
    message: Mapping[str, object],
    opens: list[Event],
    clicks: list[Event],
    bounces: list[Mapping[str, object]],
    replies: list[Mapping[str, object]],
    unsubscribes: list[Mapping[str, object]],
    complaints: list[Mapping[str, object]],
    as_of: datetime,
) -> dict[str, int]:
    human_opens = [when for when, who, _, _ in opens if who != "machine"]
    human_clicks = [when for when, who, _, _ in clicks if who != "machine"]
    answered = bool(replies or unsubscribes or complaints or human_opens or human_clicks)
    last = _last_report(message, bounces)
    confirmed = message["delivered"]
    bounced = not answered and last is not None and (confirmed is None or last[0] >= confirmed)  # type: ignore[operator]
    silent = message["failed"] is None and message["sent"] + timedelta(hours=72) <= as_of  # type: ignore[operator]
    delivered = answered or (not bounced and (confirmed is not None or (last is None and silent)))
    hard = bounced and last is not None and last[1] == "hard"
    return {
        "sent": 1,
        "delivered": int(delivered),
        "opened_tracked": int(bool(human_opens or human_clicks)),
        "clicked_tracked": int(bool(human_clicks)),
        "replied": int(bool(replies)),
        "bounced": int(bounced),
        "hard_bounced": int(hard),
        "soft_bounced": int(bounced and not hard),
        "unsubscribed": int(bool(unsubscribes)),
        "spam_complaints": int(bool(complaints)),
        "opens_total": sum(counts for _, _, counts, _ in opens),
        "clicks_total": sum(counts for _, _, counts, _ in clicks),
        "opened_machine": int(any(who == "machine" for _, who, _, _ in opens)),
        "clicked_machine": int(any(who == "machine" for _, who, _, _ in clicks)),
    }


def _delivered(
    message: Mapping[str, object],
    outcome: Mapping[str, int],
    engaged: list[datetime],
    answers: Iterable[Mapping[str, object]],
    unsubscribes: Iterable[Mapping[str, object]],
    complaints: Iterable[Mapping[str, object]],
) -> object:
    """The confirmation, else the first engagement, else the send."""
    if not outcome["delivered"]:
        return None
    first = [*engaged, *(a["replied"] for a in answers), *(u["unsubscribed"] for u in unsubscribes)]
    first += [c["complained"] for c in complaints]
    return message["delivered"] or min(first, default=None) or message["sent"]  # type: ignore[type-var]


def _last_report(message: Mapping[str, object], bounces: list[Mapping[str, object]]) -> tuple[object, object] | None:
    reports = [(b["bounced"], b["bounce_type"]) for b in bounces]
    if message["bounced"]:
        reports.append((message["bounced"], message["bounce_type"]))
    return max(reports, key=lambda r: (r[0], r[1] == "hard"), default=None)  # type: ignore[type-var]


def _classified(events: Iterable[Mapping[str, object]], time: str, arrived: datetime, *, bursts: bool) -> list[Event]:
    """Each distinct event of one message."""
    first: dict[object, Mapping[str, object]] = {}
    for event in sorted(events, key=lambda e: (e[time], e["id"])):
        first.setdefault(event["event_key"], event)
    ordered = sorted(first.values(), key=lambda e: (e[time], e["event_key"]))
    burst: set[int] = set()
    if bursts:
        for start in ordered:
            near = [
                e
                for e in ordered
                if start[time] <= e[time] <= start[time] + timedelta(seconds=1)  # type: ignore[operator]
            ]
            if len({str(e["clicked_url"]).lower() for e in near}) >= 3:
                burst |= {id(e) for e in near}
    result = []
    previous: dict[object, datetime] = {}
    for event in ordered:
        when: datetime = event[time]  # type: ignore[assignment]
        who = _who(event, when, arrived, in_burst=id(event) in burst)
        client = (event["ip_address"], event["user_agent"], who == "machine")
        repeated = client in previous and when - previous[client] <= timedelta(seconds=10)
        previous[client] = when
        result.append((when, who, who != "machine" and not repeated, event))
    return result


def _who(event: Mapping[str, object], when: datetime, arrived: datetime, *, in_burst: bool) -> str:
    agent = str(event["user_agent"] or "").lower()
    kinds = {
        kind
        for pattern, comparison, kind in _agents()
        if (agent == pattern if comparison == "equals" else pattern in agent)
    }
    if event["is_bot"] or "scanner" in kinds or in_burst:
        return "machine"
    if "image_proxy" in kinds:
        return "machine" if when <= arrived + timedelta(seconds=2) else "unknown"
    return "human"


def _agents() -> list[tuple[str, str, str]]:
    if not _known:
        with AGENTS.open() as file:
            _known.extend((r["pattern"].lower(), r["comparison"], r["kind"]) for r in csv.DictReader(file))
    return _known


_known: list[tuple[str, str, str]] = []


def _rows(connection: psycopg.Connection, query: str) -> list[Mapping[str, object]]:
    cursor = connection.execute(query)  # type: ignore[call-overload]
    names = [c.name for c in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _by_message(rows: list[Mapping[str, object]]) -> defaultdict[object, list[Mapping[str, object]]]:
    found: defaultdict[object, list[Mapping[str, object]]] = defaultdict(list)
    for row in rows:
        found[row["storage_key"]].append(row)
    return found
