"""Generated histories: what producers might send, nasty on purpose.

Laws: a history is a list of messages in order of arrival; every instant in it lies at or before `NOW`, but for those of
messages that are to be rejected as `future`; few customers, orders and event ids are shared by many messages, so that
versions, repeats and retractions meet. Which outcome a message has is the oracle's to say, not this file's.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from . import builders
from .builders import Event
from .oracle import Message, Oracle, Setting

NOW: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)
TIMEZONES: Final = ("UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "Pacific/Apia")
CURRENCIES: Final = {"CNY": 2, "USD": 2, "JPY": 0, "KWD": 3}
BASE_CURRENCIES: Final = ("CNY", "JPY", "KWD")

# "B" < "C-10" < "C-2" < "a" < "c-1" in byte order; other collations and case folding order them otherwise.
CUSTOMER_IDS: Final = ("a", "B", "C-2", "C-10", "c-1", "c_1", "c.1", "c:1", "Z" + "9" * 63, "z" * 64)
ORDER_IDS: Final = ("O-1", "o-1", "订单", "😀" * 64, " ")
_WORDS: Final = ("", "North", "north", "Zürich", "Zu\u0308rich", "华东", "😀", 'a\tb\\"c', "null", "x" * 300)
_CODES: Final = ("express", "cold_chain", "insured", "customised", "green", "", "极速")


# --- spelling -------------------------------------------------------------------------------------------------------


def _number_spellings(number: int | Decimal) -> list[str]:
    value = Decimal(number)
    plain = format(value, "f")
    if not value:
        return ["0", "-0", "0.0", "-0e3", "0E-7"]
    coefficient = plain.replace(".", "").lstrip("0")
    power = len(plain.partition(".")[2])
    stripped = coefficient.rstrip("0")
    return [
        plain,
        f"{plain}00" if "." in plain else f"{plain}.00",
        f"{coefficient}e-{power}",
        f"{coefficient}000E-{power + 3}",
        f"{stripped}e{len(coefficient) - len(stripped) - power}",
    ]


@st.composite
def _spelled(draw: st.DrawFn, value: Any) -> str:
    """The JSON text of the value in any spelling: order of keys, whitespace, escapes, numbers, keys given twice."""
    space = draw(st.sampled_from(("", "", " ", "\n\t", "\r\n")))
    if isinstance(value, dict):
        members = [
            f"{draw(_spelled(key))}{space}:{draw(_spelled(element))}"
            for key, element in draw(st.permutations(list(value.items())))
        ]
        if members and draw(st.integers(0, 19)) == 0:
            members.insert(0, members[-1].partition(":")[0] + ":[]")
        return "{" + space + f",{space}".join(members) + space + "}"
    if isinstance(value, list):
        return "[" + space + f"{space},".join(draw(_spelled(element)) for element in value) + "]"
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return draw(st.sampled_from(_number_spellings(value)))
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


@st.composite
def _message(draw: st.DrawFn, event: Event) -> Message:
    modes = ["plain", "plain", "structured"]
    if all(isinstance(event.get(name), str) for name in ("event_id", "type", "occurred_at")):
        modes.append("binary")
    mode = draw(st.sampled_from(modes))
    if mode == "plain":
        return Message(draw(_spelled(event)).encode())
    envelope = builders.as_envelope(event)
    if isinstance(event.get("customer_id"), str) and draw(st.booleans()):
        envelope["subject"] = envelope["data"]["customer_id"]
        if draw(st.booleans()):
            del envelope["data"]["customer_id"]
    elif draw(st.booleans()):
        envelope["subject"] = "not-the-customer"
    if draw(st.booleans()):
        envelope["data"] |= {"event_id": "loses", "type": "loses", "occurred_at": "loses"}
    if mode == "structured":
        return Message(draw(_spelled(envelope)).encode(), (("content-type", b"application/cloudevents+json"),))
    data = envelope.pop("data")
    del envelope["datacontenttype"]
    return Message(
        draw(_spelled(data)).encode(), tuple((f"ce_{name}", text.encode()) for name, text in envelope.items())
    )


# --- instants -------------------------------------------------------------------------------------------------------


def _edges() -> tuple[datetime, ...]:
    """Midnights of every zone at the ends of windows and around changes of the clock; each is tried from both sides."""
    today = NOW.date()
    days = {today - timedelta(days=days) for days in (0, 1, 6, 7, 29, 30, 89, 90, 364, 365, 366, 800)}
    days |= {date(2026, 3, 8), date(2026, 3, 29), date(2026, 10, 25), date(2026, 11, 1), date(2024, 2, 29)}
    days |= {date(2011, 12, 30), date(2011, 12, 31), date(1990, 1, 2)}
    midnights = [datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC) for day in days for zone in TIMEZONES]
    shifts = [
        datetime(2026, 3, 8, 7, tzinfo=UTC),
        datetime(2026, 3, 29, 1, tzinfo=UTC),
        datetime(2026, 10, 25, 1, tzinfo=UTC),
        datetime(2026, 11, 1, 6, tzinfo=UTC),
        datetime(2011, 12, 30, 10, tzinfo=UTC),
    ]
    return tuple(sorted({instant for instant in midnights + shifts if instant < NOW}))


_EDGES: Final = _edges()
_EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)


@st.composite
def _instants(draw: st.DrawFn) -> datetime:
    kind = draw(st.sampled_from(("edge", "edge", "recent", "recent", "recent", "same", "same", "any", "limit")))
    if kind == "edge":
        step = draw(st.sampled_from((timedelta(0), timedelta(microseconds=-1), timedelta(microseconds=1))))
        return draw(st.sampled_from(_EDGES)) + step
    if kind == "recent":
        return NOW - timedelta(hours=draw(st.integers(0, 180 * 24)))
    if kind == "same":
        return NOW - timedelta(days=draw(st.integers(0, 2)))
    if kind == "limit":
        return draw(st.sampled_from((_EARLIEST, NOW)))
    return NOW - timedelta(microseconds=draw(st.integers(0, 900 * 86_400_000_000)))


@st.composite
def _times(draw: st.DrawFn, instants: st.SearchStrategy[datetime] | None = None) -> str:
    """One instant, with any offset and any number of digits."""
    instant = draw(_instants() if instants is None else instants)
    minutes = draw(st.sampled_from((0, 0, 0, 480, -300, 345, -719, 840, 1_439, -1_439)))
    local = instant.astimezone(timezone(timedelta(minutes=minutes)))
    text = local.strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{local.microsecond:06d}"
    fractions = ["." + digits, "." + digits + "999"]
    if not local.microsecond:
        fractions += ["", "", "", ".0", ".000000001"]
    text += draw(st.sampled_from(fractions))
    sign = "-" if minutes < 0 else "+"
    offset = f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    text += draw(st.sampled_from(("Z", "Z", "z", "+00:00", "-00:00"))) if minutes == 0 else offset
    return draw(st.sampled_from((text, text, text.replace("T", "t"))))


# --- fields ---------------------------------------------------------------------------------------------------------


@st.composite
def _money(draw: st.DrawFn, currency: str) -> str | int | Decimal:
    decimals = CURRENCIES.get(currency, 2)
    kind = draw(st.sampled_from(("tie", "tie", "tie", "tie", "small", "small", "limit")))
    if kind == "tie":
        minor = draw(st.sampled_from((10_000, 10_000, 20_000, 40_000, 100)))
    elif kind == "small":
        minor = draw(st.integers(0, 20_000))
    else:
        minor = draw(st.sampled_from((0, 1, 5, 10 ** (12 + decimals) - 1)))
    amount = Decimal(minor).scaleb(-decimals)
    if draw(st.booleans()):
        return amount
    text = format(amount, "f")
    zeros = draw(st.integers(0, 9 - decimals))
    if zeros:
        text += ("" if "." in text else ".") + "0" * zeros
    return text


@st.composite
def _some(draw: st.DrawFn, fields: dict[str, st.SearchStrategy[Any]]) -> Event:
    """Some of the optional fields, some of them an explicit null."""
    event: Event = {}
    for name, strategy in fields.items():
        choice = draw(st.sampled_from(("absent", "absent", "value", "value", "null")))
        if choice == "value":
            event[name] = draw(strategy)
        elif choice == "null":
            event[name] = None
    return event


_words: Final = st.sampled_from(_WORDS)
_codes: Final = st.lists(st.sampled_from(_CODES), max_size=3)
_counts: Final = st.sampled_from((0, 1, 7, 100, 10**9))
_weights: Final = st.sampled_from((0, 1, Decimal("0.1"), Decimal("0.2"), Decimal("12.345"), Decimal("99999999.999")))
_scores: Final = st.sampled_from((0, 7, 10, Decimal("9.99"), Decimal("3.3333333333333333333"), Decimal("1e-30")))
_extra: Final[st.SearchStrategy[Any]] = st.sampled_from(
    (None, True, 1, "1", Decimal("0.5"), [], {"a": [1, None]}, "\0")
)


def _nulls_or(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


@dataclass(frozen=True, slots=True)
class _World:
    """The few names that the messages of one history share."""

    customers: Sequence[str]
    orders: Sequence[str]
    event_ids: Sequence[str]


@st.composite
def _events(draw: st.DrawFn, world: _World, event_id: str) -> Event:
    """One event that is valid, though its currency may have no rate."""
    kinds = ("order", "order", "order", "cancellation", "delivery", "return", "return", "complaint", "feedback")
    kind = draw(st.sampled_from((*kinds, "customer", "customer", "retraction", "retraction")))
    common = {
        "event_id": event_id,
        "customer_id": draw(st.sampled_from(world.customers)),
        "occurred_at": draw(_times()),
    }
    order_id = st.sampled_from(world.orders)
    event: Event
    if kind == "order":
        currency = draw(st.sampled_from(("CNY", "CNY", *CURRENCIES)))
        optional = {
            "ordered_at": _times(),
            "cost": _money(currency),
            "items": _counts,
            "parcels": _counts,
            "weight_kg": _weights,
            "services": _codes,
            "promised_at": _times(),
            "delivered_at": _times(),
            "region": _words,
            "channel": _words,
        }
        event = builders.an_order(
            **common,
            order_id=draw(order_id),
            amount=draw(_money(currency)),
            currency=currency,
            **draw(_some(optional)),
        )
    elif kind == "cancellation":
        event = builders.a_cancellation(**common, order_id=draw(order_id), **draw(_some({"reason": _words})))
    elif kind == "delivery":
        optional = {"promised_at": _times(), "picked_up_at": _times(), "delivered_at": _times(), "exception": _words}
        dropped = {"promised_at": builders.ABSENT, "delivered_at": builders.ABSENT}
        event = builders.a_delivery(**common, order_id=draw(order_id), **(dropped | draw(_some(optional))))
    elif kind == "return":
        currency = draw(st.sampled_from(("CNY", "CNY", *CURRENCIES)))
        optional = {"order_id": order_id, "items": _counts, "reason": _words}
        amount = draw(_money(currency))
        event = builders.a_return(**common, amount=amount, currency=currency, **draw(_some(optional)))
    elif kind == "complaint":
        optional = {"order_id": order_id, "category": _words, "severity": st.integers(1, 5), "text": _words}
        event = builders.a_complaint(**common, **draw(_some(optional)))
    elif kind == "feedback":
        optional = {"kind": st.sampled_from(("nps", "csat", "survey")), "text": _words}
        event = builders.a_feedback(**common, score=draw(_scores), **draw(_some(optional)))
    elif kind == "customer":
        needs = st.dictionaries(st.sampled_from(("basic", "expected", "latent", "other")), _nulls_or(_codes))
        attributes = st.dictionaries(st.sampled_from(("", "k", "K", "é")), _nulls_or(_words))
        optional = {
            "name": _words,
            "subject_type": st.sampled_from(("company", "person")),
            "industry": st.sampled_from(("manufacturing", "retail", "ecommerce", "pharma", "electronics", "other")),
            "region": _words,
            "channel": _words,
            "account_manager": _words,
            "needs": needs,
            "contract_type": _words,
            "contract_end": st.sampled_from(("0001-01-01", "2026-02-28", "2028-02-29", "9999-12-31")),
            "attributes": attributes,
        }
        event = builders.a_customer(**common, **draw(_some(optional)))
    else:
        retracts = draw(st.sampled_from(world.event_ids))
        event = builders.a_retraction(**common, retracts=retracts, **draw(_some({"reason": _words})))
    if draw(st.integers(0, 4)) == 0:
        event["an_unknown_field"] = draw(_extra)
    if draw(st.integers(0, 4)) == 0:
        event = {name: event[name] for name in draw(st.permutations(list(event)))}
    return event


# --- rejects --------------------------------------------------------------------------------------------------------

_VALID: Final = builders.as_json(builders.a_complaint(event_id="never-applied"))
NOT_JSON: Final[tuple[bytes, ...]] = (
    b" ",
    b"{",
    b"\xef\xbb\xbf" + _VALID,
    _VALID.decode().encode("utf-16"),
    _VALID + b"{}",
    _VALID[:-1] + b",}",
    _VALID[:-1] + b',"x":NaN}',
    _VALID[:-1] + b',"x":-Infinity}',
    _VALID[:-1] + b',"x":01}',
    _VALID[:-1] + b',"x":1.}',
    _VALID[:-1] + b',"x":.5}',
    _VALID[:-1] + b',"x":+1}',
    _VALID[:-1] + b',"x":"\\ud800"}',
    _VALID[:-1] + b',"x":"\\udc00\\ud800"}',
    _VALID[:-1] + b',"\\udfff":1}',
    _VALID[:-1] + b',"x":"\\ud800","x":1}',
    _VALID[:-1] + b',"x":"\xed\xa0\x80"}',
    _VALID[:-1] + b',"x":"\xff"}',
    _VALID[:-1] + b',"x":"\xc0\x80"}',
    _VALID[:-1] + b',"x":"a\nb"}',
    _VALID[:-1] + b',"x":"\\x41"}',
    _VALID[:-1] + b",'x':1}",
    _VALID[:-1] + b',"x":' + b"[" * 100 + b"]" * 100 + b"}",
    b"[" * 100_000,
    b"[" * 101 + b"]" * 101,
)
NOT_EVENTS: Final[tuple[bytes, ...]] = (
    b"null",
    b"true",
    b"1",
    b'"order"',
    b"[]",
    b"[" + _VALID + b"]",
    b"{}",
    b"[" * 100 + b"]" * 100,
    _VALID.replace(b'"complaint",', b"null,", 1),
    b'{"specversion":"1.0","type":"complaint","id":"never-applied","data":{"customer_id":"C-1"}}',
    b'{"specversion":"1.0","type":"complaint","id":"never-applied","time":"2026-01-01T00:00:00Z","subject":"C-1"}',
    b'{"specversion":"1.0","type":"complaint","id":"never-applied","time":"2026-01-01T00:00:00Z","data":[]}',
)
_MALFORMED_TIMES: Final = (
    "",
    "2026-01-01",
    "2026-01-01T00:00:00",
    "2026-01-01 00:00:00Z",
    "2026-01-01T00:00Z",
    "2026-01-01T24:00:00Z",
    "2026-01-01T23:59:60Z",
    "2026-01-01T00:60:00Z",
    "2026-02-29T00:00:00Z",
    "2026-13-01T00:00:00Z",
    "2026-01-01T00:00:00.Z",
    "2026-01-01T00:00:00.1234567890Z",
    "2026-01-01T00:00:00,5Z",
    "2026-01-01T00:00:00+0800",
    "2026-01-01T00:00:00+24:00",
    "2026-01-01T00:00:00+08:60",
    "2026-01-01T00:00:00Z\n",
    " 2026-01-01T00:00:00Z",
    "٢٠٢٦-01-01T00:00:00Z",
    "12026-01-01T00:00:00Z",
    1_767_225_600,
    True,
)
_MALFORMED_TEXTS: Final[tuple[Any, ...]] = ("\0", 1, True, [], {})
_MALFORMED_COUNTS: Final[tuple[Any, ...]] = (
    -1,
    Decimal("0.5"),
    10**9 + 1,
    "1",
    True,
    Decimal("1e400"),
    Decimal("1e-400"),
    [],
)
_MALFORMED_MONEY: Final[tuple[Any, ...]] = (
    -1,
    "-1",
    "+1",
    "",
    " 1",
    "1 ",
    "1\n",
    "1.",
    ".5",
    "1e2",
    "1,5",
    "٣",
    "1" * 13,
    "1." + "0" * 10,
    "1.001",
    Decimal("1.001"),
    Decimal("0.0000000001"),
    10**12,
    Decimal("1e999999"),
    True,
    [],
)
_MALFORMED_LISTS: Final[tuple[Any, ...]] = ("express", {}, [1], [None], ["\0"], 1)
MALFORMED_FIELDS: Final[tuple[tuple[Any, str, tuple[Any, ...]], ...]] = (
    (builders.an_order, "event_id", ("", None, builders.ABSENT, "x" * 129, "a\0", 7)),
    (builders.an_order, "customer_id", ("", None, builders.ABSENT, "-a", "é", "a" * 65, "a b", "a\n", "a\0", 7)),
    (builders.an_order, "occurred_at", (*_MALFORMED_TIMES, None, builders.ABSENT)),
    (builders.an_order, "type", (None, builders.ABSENT, 7, ["order"])),
    (builders.an_order, "order_id", ("", None, builders.ABSENT, "x" * 65, "\0", 7)),
    (builders.an_order, "amount", (*_MALFORMED_MONEY, None, builders.ABSENT)),
    (builders.an_order, "cost", _MALFORMED_MONEY),
    (builders.an_order, "currency", ("", None, builders.ABSENT, "cny", "CNYX", "C1Y", "CNY\n", "СNY", 156)),
    (builders.an_order, "ordered_at", _MALFORMED_TIMES),
    (builders.an_order, "promised_at", _MALFORMED_TIMES),
    (builders.an_order, "delivered_at", _MALFORMED_TIMES),
    (builders.an_order, "items", _MALFORMED_COUNTS),
    (builders.an_order, "parcels", _MALFORMED_COUNTS),
    (builders.an_order, "weight_kg", (-1, Decimal("0.0001"), "1", True, [])),
    (builders.an_order, "services", _MALFORMED_LISTS),
    (builders.an_order, "region", _MALFORMED_TEXTS),
    (builders.an_order, "channel", _MALFORMED_TEXTS),
    (builders.a_cancellation, "order_id", ("", None, builders.ABSENT, "x" * 65)),
    (builders.a_cancellation, "reason", _MALFORMED_TEXTS),
    (builders.a_delivery, "order_id", ("", None, builders.ABSENT, "x" * 65)),
    (builders.a_delivery, "promised_at", _MALFORMED_TIMES),
    (builders.a_delivery, "picked_up_at", _MALFORMED_TIMES),
    (builders.a_delivery, "delivered_at", _MALFORMED_TIMES),
    (builders.a_delivery, "exception", _MALFORMED_TEXTS),
    (builders.a_return, "amount", (*_MALFORMED_MONEY, None, builders.ABSENT)),
    (builders.a_return, "currency", ("", None, builders.ABSENT, "cny", 156)),
    (builders.a_return, "order_id", ("", "x" * 65, 7)),
    (builders.a_return, "items", _MALFORMED_COUNTS),
    (builders.a_return, "reason", _MALFORMED_TEXTS),
    (builders.a_complaint, "order_id", ("", "x" * 65, 7)),
    (builders.a_complaint, "category", _MALFORMED_TEXTS),
    (builders.a_complaint, "severity", (0, 6, Decimal("1.5"), "3", True)),
    (builders.a_complaint, "text", _MALFORMED_TEXTS),
    (builders.a_feedback, "score", (-1, Decimal("-0.1"), Decimal("10.0000000000000000001"), 11, "7", True, None)),
    (builders.a_feedback, "kind", ("", "NPS", "other", 1)),
    (builders.a_feedback, "text", _MALFORMED_TEXTS),
    (builders.a_customer, "name", _MALFORMED_TEXTS),
    (builders.a_customer, "subject_type", ("", "Company", "other", 1)),
    (builders.a_customer, "industry", ("", "Retail", "logistics", 1)),
    (builders.a_customer, "region", _MALFORMED_TEXTS),
    (builders.a_customer, "channel", _MALFORMED_TEXTS),
    (builders.a_customer, "account_manager", _MALFORMED_TEXTS),
    (builders.a_customer, "needs", ("basic", [], {"basic": "x"}, {"latent": [1]}, {"expected": ["\0"]}, 1)),
    (builders.a_customer, "contract_type", _MALFORMED_TEXTS),
    (builders.a_customer, "contract_end", ("", "2026-02-29", "2026-1-1", "0000-01-01", "2026-01-01T00:00:00Z", 2026)),
    (builders.a_customer, "attributes", ("k", [], {"k": 1}, {"k": "\0"}, {"\0": "v"}, {"k": ["v"]})),
    (builders.a_retraction, "retracts", ("", None, builders.ABSENT, "x" * 129, "\0", 7)),
    (builders.a_retraction, "reason", _MALFORMED_TEXTS),
)
UNKNOWN_TYPES: Final = ("", "Order", "orders", "order ", "refund")
TOO_OLD_TIMES: Final = (
    "1989-12-31T23:59:59.999999Z",
    "1990-01-01T00:00:00+00:01",
    "1970-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
)
FUTURE_TIMES: Final = ("2100-01-01T00:00:00Z", "9999-12-31T23:59:59.999999-23:59")
UNKNOWN_CURRENCIES: Final = ("XXX", "XAU", "ZZZ", "CHF")
REJECT_REASONS: Final = (
    "empty",
    "too_large",
    "invalid_json",
    "schema",
    "unknown_type",
    "too_old",
    "future",
    "unknown_currency",
)


@st.composite
def rejects(draw: st.DrawFn, reason: str, customer_id: str = "C-1", event_id: str = "never-applied") -> Message:
    """A message that is rejected with the reason wherever it stands, if its event id was never applied."""
    named = {"customer_id": customer_id, "event_id": event_id}
    if reason == "empty":
        return Message(draw(st.sampled_from((None, b""))))
    if reason == "too_large":
        filler = draw(st.sampled_from((b" ", b"x", b"\0")))
        whole = builders.as_json(builders.a_complaint(**named))
        return Message(whole + filler * (262_145 - len(whole)))
    if reason == "invalid_json":
        return Message(draw(st.sampled_from(NOT_JSON)))
    if reason == "schema":
        if draw(st.integers(0, 4)) == 0:
            return Message(draw(st.sampled_from(NOT_EVENTS)))
        build, field, values = draw(st.sampled_from(MALFORMED_FIELDS))
        return builders.as_message(build(**(named | {field: draw(st.sampled_from(values))})))
    if reason == "unknown_type":
        event = builders.an_order(**named, type=draw(st.sampled_from(UNKNOWN_TYPES)))
        return builders.as_message(event, mode=draw(st.sampled_from(builders.MODES)))
    if reason == "unknown_currency":
        build = draw(st.sampled_from((builders.an_order, builders.a_return)))
        return draw(_message(build(**named, currency=draw(st.sampled_from(UNKNOWN_CURRENCIES)))))
    instant = draw(st.sampled_from(TOO_OLD_TIMES if reason == "too_old" else FUTURE_TIMES))
    field = draw(st.sampled_from(("occurred_at", "ordered_at")))
    return draw(_message(builders.an_order(**(named | {field: instant}))))


# --- repeats --------------------------------------------------------------------------------------------------------


@st.composite
def _other_content(draw: st.DrawFn, event: Event) -> Event:
    """A valid event of the same id that differs in one thing, often only by the narrowest of margins."""
    other = dict(event)
    changes = ["null", "instant"]
    if isinstance(event.get("amount"), str):
        changes.append("spelt_amount")
    if isinstance(event.get("amount"), int | Decimal):
        changes.append("typed_amount")
    change = draw(st.sampled_from(changes))
    if change == "null":
        # No `customer` field has this name, so that a null in its place clears nothing.
        if "a_nothing" in other:
            del other["a_nothing"]
        else:
            other["a_nothing"] = None
    elif change == "instant":
        other["occurred_at"] = draw(_times().filter(lambda text: text != event["occurred_at"]))
    elif change == "spelt_amount":
        other["amount"] = Decimal(event["amount"])
    else:
        other["amount"] = format(Decimal(event["amount"]), "f")
    return other


# --- what tests draw ------------------------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn, max_events: int = 40) -> list[Message]:
    """A list of messages in order of arrival: new events, repeats, conflicts and rejects."""
    count = draw(st.integers(0, max_events))
    world = _World(
        customers=draw(st.lists(st.sampled_from(CUSTOMER_IDS), min_size=2, max_size=6, unique=True)),
        orders=draw(st.lists(st.sampled_from(ORDER_IDS), min_size=1, max_size=3, unique=True)),
        event_ids=[*(f"e-{index}" for index in range(count)), "E-1", "é" * 128],
    )
    # Taken in any order: which of two versions at one instant counts must not follow their arrival.
    unused = draw(st.permutations(world.event_ids))
    sent: list[Event] = []
    messages: list[Message] = []
    if count >= len(world.customers) and draw(st.booleans()):
        # Left to chance, few customers are above zero at once, and tier B is hardly ever seen.
        for customer_id in world.customers:
            amount = draw(st.sampled_from(("80", "79.99", "15", "15.01", "5", "5", "4.99")))
            named = {"customer_id": customer_id, "order_id": "for the ranking", "event_id": unused[0]}
            days = timedelta(days=draw(st.sampled_from((0, 0, 1, 363, 364, 365))))
            instant = (NOW - days).strftime("%Y-%m-%dT%H:%M:%SZ")
            sent.append(builders.an_order(**named, amount=amount, occurred_at=instant))
            unused = unused[1:]
            messages.append(draw(_message(sent[-1])))
    while len(messages) < count:
        kind = draw(st.sampled_from(("new",) * 14 + ("repeat", "repeat", "conflict", "reject", "reject", "reject")))
        if kind == "reject":
            # The id may be applied later: a rejected event leaves its id unknown.
            names = (draw(st.sampled_from(world.customers)), draw(st.sampled_from((unused[0], "never-applied"))))
            messages.append(draw(rejects(draw(st.sampled_from(REJECT_REASONS)), *names)))
            continue
        if kind == "new" or not sent:
            event = draw(_events(world, unused[0]))
            unused = unused[1:]
            sent.append(event)
        elif kind == "repeat":
            event = draw(st.sampled_from(sent))
        else:
            event = draw(_other_content(draw(st.sampled_from(sent))))
        messages.append(draw(_message(event)))
        if kind == "new" and event["type"] in ("return", "complaint", "feedback") and draw(st.integers(0, 2)) == 0:
            # Somewhere in the history so far: before the event it takes back as often as after it.
            named = {"customer_id": event["customer_id"], "occurred_at": draw(_times())}
            retraction = builders.a_retraction(**named, event_id=unused[0], retracts=event["event_id"])
            unused = unused[1:]
            sent.append(retraction)
            messages.insert(draw(st.integers(0, len(messages))), draw(_message(retraction)))
    return messages[:count]


@st.composite
def settings_for_histories(draw: st.DrawFn, clock: str | None = None) -> Setting:
    """An installation: its zone, base currency, clock and rates; some currencies have none, or none early enough."""
    base = draw(st.sampled_from(BASE_CURRENCIES))
    rates = []
    for currency in (*CURRENCIES, "EUR"):
        # The awkward ones make half-even ties, vanish, or have all twelve decimals.
        rate = st.sampled_from(("1", "0.5", "0.005", "0.0005", "7.125", "0.000000000001", "23.456789012345"))
        days = draw(
            st.lists(st.sampled_from(("1989-12-31", "2011-12-31", "2025-11-22", "2026-03-29")), unique=True, max_size=3)
        )
        rates += [(currency, day, draw(rate)) for day in days if currency != base]
    return Setting(
        base_currency=base,
        timezone=draw(st.sampled_from(TIMEZONES)),
        clock=draw(st.sampled_from(("event", "system"))) if clock is None else clock,
        rates=tuple(rates),
    )


def agreeable(history: Sequence[Message], setting: Setting) -> list[Message]:
    """The messages that are applied or repeat an applied one: those whose order of arrival must not matter."""
    oracle = Oracle(setting)
    return [message for message in history if oracle.read(message, now=NOW)[0] in ("applied", "duplicate")]


@st.composite
def shuffles(draw: st.DrawFn, history: Sequence[Message]) -> list[list[Message]]:
    """The history in another order, some messages delivered more than once, cut into batches.

    Draw it from what `agreeable` leaves: which of two conflicting messages is applied does depend on their order.
    """
    redelivered = draw(st.lists(st.sampled_from(history), max_size=10)) if history else []
    shuffled = draw(st.permutations([*history, *redelivered]))
    cuts = sorted(draw(st.lists(st.integers(0, len(shuffled)), max_size=5)))
    bounds = [0, *cuts, len(shuffled)]
    return [list(shuffled[start:end]) for start, end in itertools.pairwise(bounds)]
