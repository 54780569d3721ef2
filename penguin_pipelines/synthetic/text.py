"""Words: subjects, bodies, links, SMTP answers, user agents and their networks.

Not here: names of people (people.py) and who does what when (events.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from penguin_pipelines.synthetic.ids import objects

SUBJECTS = objects([
    "Quick question about {firm}", "Idea for {firm}", "{first}, 15 minutes this week?",
    "Saw your team is growing",
    "Cutting onboarding time at {firm}", "Kurze Frage, {first}", "Une idée pour {firm}", "Following up ✉️",
])  # fmt: skip
FOLLOW_UPS = objects(["Re: my note", "Any thoughts, {first}?", "Should I close the file?", "One last idea"])
PARAGRAPHS = [
    "I noticed that teams like yours spend a lot of time on manual outreach. We help them book twice the "
    "meetings with half the work.",
    "Most people in your role tell us that replies dried up this year. Our customers fixed that in six weeks.",
    "A short case study is attached below; the numbers are from a company of your size.",
    "Wir unterstützen Unternehmen wie Ihres dabei, planbar neue Kunden zu gewinnen.",
    "I will keep this short: would a fifteen-minute call on Thursday be useful?",
    "Just floating this to the top of your inbox, in case it got buried.",
]
WARMUP_LINES = [
    "Thanks for the update, talk soon.", "The notes from Monday are in the folder.",
    "Lunch at noon still works for me.",
    "Could you look at the draft before Friday?", "Great, see you at the workshop.",
]  # fmt: skip
REPLY_LINES = objects([
    "Sounds interesting, can you send times for next week?",
    "Not the right person, please write to our head of sales.",
    "We already have a provider, thanks.", "Gern, wie wäre es am Dienstag um 10 Uhr?",
    "Interested. What does it cost?",
])  # fmt: skip
STOP_LINES = objects(["Please remove me from your list.", "unsubscribe", "Bitte nicht mehr anschreiben."])
AUTO_LINES = objects([
    "I am out of office until Monday with limited access to mail.",
    "Vielen Dank für Ihre Nachricht, ich bin im Urlaub.",
    "Thank you for contacting us; a colleague will answer shortly.",
])  # fmt: skip
LINKS = objects([f"https://links.penguinmails.example/{path}" for path in
                 ("case-study", "book-a-call", "pricing", "product-tour",
                 "unsubscribe-preferences")])  # fmt: skip


class Bounce(NamedTuple):
    """One answer of a receiving server."""

    permanence: str
    code: str
    reason: str
    at_once: bool
    suppresses: bool
    weight: int


BOUNCES = [
    Bounce(
        "hard",
        "5.1.1",
        "550 5.1.1 The email account that you tried to reach does not exist. User unknown",
        True,
        True,
        40,
    ),
    Bounce(
        "hard",
        "5.1.10",
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
        True,
        True,
        14,
    ),
    Bounce("hard", "5.1.2", "550 5.1.2 Bad destination mailbox address: domain not found", False, True, 6),
    Bounce("hard", "5.2.1", "550 5.2.1 The email account that you tried to reach is disabled", True, True, 8),
    Bounce("hard", "5.4.1", "550 5.4.1 Recipient address rejected: Access denied", True, True, 8),
    Bounce("hard", "5.7.1", "550 5.7.1 Message rejected due to content policy", True, False, 10),
    Bounce(
        "hard",
        "5.7.26",
        "550 5.7.26 Unauthenticated mail is prohibited: SPF and DKIM did not pass",
        True,
        False,
        6,
    ),
    Bounce("hard", "5.7.606", "550 5.7.606 Access denied, banned sending IP", True, False, 3),
    Bounce(
        "hard",
        "5.2.2",
        "552 5.2.2 The email account that you tried to reach is over quota and inactive",
        True,
        True,
        5,
    ),
    Bounce("soft", "4.2.2", "452 4.2.2 The recipient's mailbox is full, try again later", False, False, 30),
    Bounce("soft", "4.7.1", "451 4.7.1 Greylisting in action, please come back later", False, False, 34),
    Bounce(
        "soft",
        "4.7.28",
        "421 4.7.28 Unusual rate of unsolicited mail from your IP address, temporarily rate limited",
        False,
        False,
        12,
    ),
    Bounce(
        "soft",
        "4.4.7",
        "4.4.7 Message expired: delivery time exceeded, giving up after 72 hours",
        False,
        False,
        10,
    ),
    Bounce("soft", "4.3.2", "421 4.3.2 Service not available, closing transmission channel", False, False, 10),
    Bounce("soft", "4.4.1", "4.4.1 Connection timed out while talking to the mail exchanger", False, False, 8),
]
"""Codes of class 5 are permanent, of class 4 temporary; 5.7.x is the sender's fault and suppresses nobody."""

_WEIGHTS = np.array([b.weight for b in BOUNCES], dtype=float)
_HARD = np.array([b.permanence == "hard" for b in BOUNCES])
_SUPPRESSES = np.array([b.suppresses for b in BOUNCES])
_EXPIRED = np.array([b.code == "4.4.7" for b in BOUNCES])
BOUNCE_CHOICES = {
    "address": _HARD & _SUPPRESSES,
    "policy": _HARD & ~_SUPPRESSES,
    "temporary": ~_HARD & ~_EXPIRED,
    "full": np.array([b.code == "4.2.2" for b in BOUNCES]),
    "expired": _EXPIRED,
}


def bounce_texts(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    """Indexes into BOUNCES of one kind of failure."""
    weights = np.where(BOUNCE_CHOICES[kind], _WEIGHTS, 0.0)
    return rng.choice(len(BOUNCES), n, p=weights / weights.sum())


class Client(NamedTuple):
    """What loads pixels or follows links."""

    mail_client: str
    device: str
    user_agent: str


_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko)"
HUMANS = [
    Client(
        "Outlook",
        "desktop",
        "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; Microsoft Outlook 16.0.17029; ms-office)",
    ),
    Client(
        "Apple Mail",
        "desktop",
        f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT}",
    ),
    Client(
        "iPhone Mail",
        "mobile",
        f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) {_WEBKIT} Mobile/15E148",
    ),
    Client(
        "iPad Mail",
        "tablet",
        f"Mozilla/5.0 (iPad; CPU OS 17_4 like Mac OS X) {_WEBKIT} Mobile/15E148",
    ),
    Client(
        "Thunderbird",
        "desktop",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:115.0) Gecko/20100101 Thunderbird/115.12.0",
    ),
    Client("Yahoo Mail", "desktop", "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"),
    Client(
        "Samsung Mail",
        "mobile",
        f"Mozilla/5.0 (Linux; Android 14; SM-S911B) {_CHROME} Chrome/125.0 Mobile Safari/537.36",
    ),
    Client(
        "Outlook Web",
        "desktop",
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME} Chrome/125.0.0.0 Safari/537.36 Edg/125.0",
    ),
]
HUMAN_WEIGHTS = np.array([24, 18, 26, 4, 6, 6, 8, 8]) / 100
APPLE = Client("Apple Mail", "unknown", "Mozilla/5.0")
GOOGLE = Client(
    "Gmail",
    "unknown",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
)
SCANNERS = [
    Client(
        "Proofpoint",
        "unknown",
        "Mozilla/5.0 (compatible; Proofpoint URL Defense; +https://www.proofpoint.com)",
    ),
    Client("Barracuda", "unknown", "BarracudaCentral Link Protection/1.0"),
    Client(
        "Mimecast",
        "unknown",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Mimecast/URL-Protect",
    ),
    Client(
        "Microsoft Safe Links",
        "unknown",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) SafeLinks/1.0 Microsoft Office 365",
    ),
]
CLIENTS = [*HUMANS, APPLE, GOOGLE, *SCANNERS]
APPLE_AT, GOOGLE_AT, SCANNERS_AT = len(HUMANS), len(HUMANS) + 1, len(HUMANS) + 2

_NETWORKS = [["71.162", "82.135", "93.104", "189.6", "86.4", "24.17", "126.74", "49.37"], ["17.58", "104.28"],
             ["66.249", "74.125", "66.102"], ["67.231", "64.235", "205.139", "40.94"]]  # fmt: skip
HOME_NET, APPLE_NET, GOOGLE_NET, SCANNER_NET = range(4)


def addresses(rng: np.random.Generator, network: int, n: int) -> list[str]:
    """IP addresses of one kind of network."""
    nets = _NETWORKS[network]
    draw = zip(
        rng.integers(0, len(nets), n).tolist(),
        rng.integers(0, 256, n).tolist(),
        rng.integers(1, 255, n).tolist(),
        strict=True,
    )
    return [f"{nets[a]}.{b}.{c}" for a, b, c in draw]


COUNTRIES = objects(["US", "US", "US", "US", "BR", "GB", "GB", "DE", "DE", "FR", "GR", "TR", "IN", "SG"])
"""Country by index of the zone in clock.OFFSETS."""
COMPLAINT_PROVIDERS = objects(["yahoo", "outlook", "comcast", "aol", "fastmail"])
