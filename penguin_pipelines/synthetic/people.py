"""Names of people and firms and the addresses of leads.

Not here: what mail says (text.py). Firms live under reserved domains; nothing made here can be mailed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penguin_pipelines.synthetic.ids import objects


def _words(text: str) -> list[str]:
    return text.split()


_FIRST = _words("""Anna Ben Carla David Emma Felix Grace Henry Isabel Jack Karin Liam Maria Noah Olivia Paul Quinn
Rosa Simon Tara José:jose Zoë:zoe François:francois Łukasz:lukasz Søren:soren Björn:bjorn Siân:sian
Çağla:cagla Nguyễn:nguyen Renée:renee Иван:ivan Ольга:olga Дмитрий:dmitri 美咲:misaki 健太:kenta 伟:wei
芳:fang 민준:minjun 서연:seoyeon Ελένη:eleni Γιώργος:giorgos محمد:mohamed فاطمة:fatima דנה:dana Priya Rahul आरव:aarav
Chidi Amara Kwame Aisha Mateo Lucía:lucia João:joao Inês:ines Márton:marton Þóra:thora Aoife Niamh
D'Arcy:darcy Jean-Luc:jeanluc Mary-Ann:maryann""")
_LAST = _words("""Smith Jones Taylor Brown Walker Clark Young Hill Baker Cooper Müller:mueller Schäfer:schaefer
Groß:gross Weiß:weiss García:garcia Muñoz:munoz Peña:pena Gonçalves:goncalves Ferreira Lefèvre:lefevre Dubois
Rossi Bianchi Nowak Wójcik:wojcik Kovács:kovacs Dvořák:dvorak Horváth:horvath Åkesson:akesson
Østergård:ostergard Jørgensen:jorgensen Иванов:ivanov Петрова:petrova 田中:tanaka 佐藤:sato 王:wang 李:li
김:kim 박:park Παπαδόπουλος:papadopoulos الحسن:alhassan כהן:cohen Sharma Patel शर्मा:sharma Okafor Mensah Diallo
O'Brien:obrien McCarthy van-der-Berg:vanderberg St.-John:stjohn Nguyễn:nguyen Yılmaz:yilmaz""")
_ADJECTIVES = _words(
    "north blue silver bright stone river cedar summit harbor clear swift golden iron maple polar amber"
)

_NOUNS = _words(
    "logistics labs foods energy media health capital systems travel works design motors studio freight data homes"
)
_SUFFIXES = _words("example de.example co.example eu.example")
_POSITIONS = [
    "Head of Sales", "CEO", "Founder", "VP Marketing", "Growth Lead", "Procurement Manager", "CTO",
    "Office Manager", "Director of Operations", "Chief of Staff",
]  # fmt: skip

TENANTS = [
    "Northwind Outreach", "Blue Harbor Agency", "Cedar & Stone GmbH", "Łódź Leads", "Polar Growth",
    "Ámbar Ventas", "Swift Pipeline", "Iron Peak Partners", "株式会社ブライト", "Riverbed Analytics",
    "Golden Gate SaaS", "Maple Recruiting",
]  # fmt: skip
INDUSTRIES = ["Software", "Logistics", "Health", "Finance", "Education", "Manufacturing", "Retail", "Energy"]
SIZES = ["1-10", "11-50", "51-200", "201-1000"]


def _pairs(words: Sequence[str]) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    split = [w.split(":") if ":" in w else [w, w.lower().replace("-", "")] for w in words]
    return objects([s[0] for s in split]), objects([s[1] for s in split])


FIRST, FIRST_ASCII = _pairs(_FIRST)
LAST, LAST_ASCII = _pairs(_LAST)
POSITIONS = objects(_POSITIONS)
FIRMS = [f"{a}{n}" for a in _ADJECTIVES for n in _NOUNS]

MAILBOX_PROVIDERS = ["gmail.com", "outlook.com", "yahoo.com", "icloud.com", "hotmail.com"]
_FIRM_DOMAINS = [f"{f}.{s}" for s in _SUFFIXES for f in FIRMS]
DOMAINS = objects(MAILBOX_PROVIDERS + _FIRM_DOMAINS)
"""Recipient domains: the large providers first, then firms."""
FIRM_NAMES = objects(["Freelance"] * len(MAILBOX_PROVIDERS) + [f.split(".")[0].capitalize() for f in _FIRM_DOMAINS])
_PROVIDER_SHARE = np.array([0.31, 0.14, 0.08, 0.04, 0.03])
FIRST_FIRM = len(MAILBOX_PROVIDERS)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def base36(number: int) -> str:
    """Short text of a number, for address suffixes."""
    text = ""
    while True:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
        if not number:
            return text


def name_of(index: int) -> str:
    """Name of the n-th tenant; the list is used again with a number when it is exhausted."""
    turn, at = divmod(index, len(TENANTS))
    return TENANTS[at] if not turn else f"{TENANTS[at]} {turn + 1}"


@dataclass
class Leads:
    """People to write to, as columns; text is made on demand for the rows asked for."""

    tenant: NDArray[np.int32]
    first: NDArray[np.int16]
    last: NDArray[np.int16]
    domain: NDArray[np.int32]
    serial: NDArray[np.int64]
    ids: NDArray[np.object_]

    def emails(self, at: NDArray[np.int64]) -> list[str]:
        """Addresses, unique by their serial."""
        parts = zip(FIRST_ASCII[self.first[at]], LAST_ASCII[self.last[at]], self.serial[at].tolist(),
                    DOMAINS[self.domain[at]], strict=True)  # fmt: skip
        return [f"{first}.{last}.{base36(serial)}@{domain}" for first, last, serial, domain in parts]

    def is_firm(self, at: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the address belongs to a firm, whose mail passes a security gateway."""
        return self.domain[at] >= FIRST_FIRM


def make_leads(rng: np.random.Generator, tenant: NDArray[np.int32], ids: list[str], first_serial: int) -> Leads:
    """As many people as there are ids."""
    n = len(tenant)
    draw = rng.random(n)
    provider = np.searchsorted(np.cumsum(_PROVIDER_SHARE), draw, side="right")
    firm = FIRST_FIRM + rng.integers(0, len(_FIRM_DOMAINS), n)
    return Leads(
        tenant,
        rng.integers(0, len(FIRST), n).astype(np.int16),
        rng.integers(0, len(LAST), n).astype(np.int16),
        np.where(provider < FIRST_FIRM, provider, firm).astype(np.int32),
        first_serial + np.arange(n, dtype=np.int64),
        objects(ids),
    )
