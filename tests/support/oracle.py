"""A second, deliberately naive reading of the contract: messages in, answers out.

Laws that must stay true of this file:
- it shares nothing with the product; where the two disagree, one of them misreads the contract;
- it keeps the list of applied events and recomputes every answer from it, holding no derived state;
- it counts in `int`, `Fraction` and `Decimal` only; a float is made once, as the last step of an answer;
- it looks at no clock: the machine's time is an argument.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, Final
from zoneinfo import ZoneInfo

LARGEST_MESSAGE_BYTES: Final = 262_144
DEEPEST_NESTING: Final = 100
FUTURE_TOLERANCE_SECONDS: Final = 300
WINDOWS: Final = {"7d": 7, "30d": 30, "90d": 90, "365d": 365}
TIER_WINDOW_DAYS: Final = 365
OUTCOMES: Final = ("applied", "duplicate", "rejected", "suppressed")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = 1_000_000


# --- what goes in ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """One Kafka message, as far as the contract looks at it."""

    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """What an installation fixes before it reads its first message."""

    base_currency: str = "CNY"
    timezone: str = "UTC"
    #: "event" or "system"
    clock: str = "event"
    #: (currency, day in ISO form, base units for one unit as a decimal string)
    rates: tuple[tuple[str, str, str], ...] = ()
    share_a: Fraction = Fraction(80, 100)
    share_b: Fraction = Fraction(95, 100)
    #: "net_revenue", "gross_profit" or "orders"
    basis: str = "net_revenue"


# --- ISO 4217 -------------------------------------------------------------------------------------------------------

# Codes whose minor unit is "N.A." (XAU, XDR, XTS, XXX, ...) are left out on purpose: no minor unit is known for them.
MINOR_UNITS: Final[Mapping[str, int]] = {
    code: decimals
    for decimals, codes in {
        0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
        2: "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF "
        "CHE CHF CHW CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD "
        "HKD HNL HRK HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT "
        "MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD "
        "SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS "
        "VED VES WST XAD XCD XCG YER ZAR ZMW ZWG ZWL",
        3: "BHD IQD JOD KWD LYD OMR TND",
        4: "CLF UYW",
    }.items()
    for code in codes.split()
}


# --- JSON -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number by value: sign * digits * 10^exponent, in lowest terms, so that equal values are equal objects."""

    #: -1, 0 or 1
    sign: int
    #: without leading or trailing zeros; empty for zero
    digits: str
    exponent: int

    def fraction(self) -> Fraction:
        """The value; exact to 20,000 decimals, and above 10^400 no more than "beyond every double"."""
        digits, exponent = self.digits, self.exponent
        if len(digits) + exponent > 400:
            return Fraction(self.sign * 10**400)
        if exponent < -20_000:
            # 1e-999999999 is a legal score of ten bytes: what is cut off is kept as "a little more than zero".
            digits, exponent = digits[: exponent + 20_000] + "1", -20_001
        return self.sign * _whole(digits or "0") * Fraction(10) ** exponent


class NotJson(Exception):
    """The bytes are not one RFC 8259 value as the contract wants it."""


def _whole(digits: str) -> int:
    """`int(digits)` without the interpreter's limit of 4,300 digits."""
    value = 0
    for start in range(0, len(digits), 4_000):
        chunk = digits[start : start + 4_000]
        value = value * 10 ** len(chunk) + int(chunk)
    return value


def _number(text: str) -> Number:
    negative, text = text.startswith("-"), text.removeprefix("-").lower()
    mantissa, _, power = text.partition("e")
    before, _, after = mantissa.partition(".")
    exponent = (-1 if power.startswith("-") else 1) * _whole(power.lstrip("+-")) - len(after)
    digits = (before + after).lstrip("0")
    stripped = digits.rstrip("0")
    if not stripped:
        return Number(0, "", 0)
    return Number(-1 if negative else 1, stripped, exponent + len(digits) - len(stripped))


def read_json(value: bytes) -> Any:
    """The value, with every number as `Number`; raises `NotJson`."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotJson from error
    if text.startswith("\ufeff") or _nesting(text) > DEEPEST_NESTING:
        raise NotJson
    try:
        parsed = json.loads(
            text, parse_int=_number, parse_float=_number, parse_constant=_no_constant, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        raise NotJson from error
    _no_lone_surrogates(parsed)
    return parsed


def _nesting(text: str) -> int:
    """How deep brackets nest outside strings; the outermost counts 1."""
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _no_constant(text: str) -> Any:
    raise NotJson(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Looked at before the last of duplicate keys wins: a lone surrogate is no JSON even where it would not count.
    for key, value in pairs:
        _no_lone_surrogates(key)
        _no_lone_surrogates(value)
    return dict(pairs)


def _no_lone_surrogates(value: Any) -> None:
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise NotJson
    elif isinstance(value, list):
        for element in value:
            _no_lone_surrogates(element)


# --- fields ---------------------------------------------------------------------------------------------------------


class _Rejected(Exception):
    def __init__(self, code: str, field: str = "") -> None:
        super().__init__(code, field)
        self.code = code


def _text(value: Any, shortest: int = 0, longest: int | None = None) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise _Rejected("schema")
    if len(value) < shortest or (longest is not None and len(value) > longest):
        raise _Rejected("schema")
    return value


def _event_id(value: Any) -> str:
    return _text(value, 1, 128)


def _order_id(value: Any) -> str:
    return _text(value, 1, 64)


def _customer_id(value: Any) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", _text(value)):
        raise _Rejected("schema")
    return str(value)


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if _text(value) not in allowed:
            raise _Rejected("schema")
        return str(value)

    return check


def _codes(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise _Rejected("schema")
    return [_text(code) for code in value]


def _between(least: int, most: int, decimals: int | None) -> Callable[[Any], Fraction]:
    def check(value: Any) -> Fraction:
        if not isinstance(value, Number) or (decimals is not None and value.exponent < -decimals):
            raise _Rejected("schema")
        if not least <= value.fraction() <= most:
            raise _Rejected("schema")
        return value.fraction()

    return check


def _weight(value: Any) -> Fraction:
    if not isinstance(value, Number) or value.exponent < -3 or value.sign < 0:
        raise _Rejected("schema")
    return value.fraction()


def _money(value: Any) -> Number:
    """An amount, before its currency's decimals are looked at."""
    if isinstance(value, str):
        if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", value):
            raise _Rejected("schema")
        return _number(value)
    if not isinstance(value, Number) or value.sign < 0 or value.exponent < -9:
        raise _Rejected("schema")
    if len(value.digits) + value.exponent > 12:
        raise _Rejected("schema")
    return value


def _currency(value: Any) -> str:
    if not re.fullmatch(r"[A-Z]{3}", _text(value)):
        raise _Rejected("schema")
    return str(value)


def _calendar_date(value: Any) -> date:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", _text(value)):
        raise _Rejected("schema")
    try:
        return date(int(value[0:4]), int(value[5:7]), int(value[8:10]))
    except ValueError as error:
        raise _Rejected("schema") from error


_TIME: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


def read_time(value: Any) -> int:
    """Microseconds since 1970-01-01T00:00Z; an integer, because an offset may lead out of the years 1 to 9999."""
    match = _TIME.fullmatch(_text(value))
    if match is None:
        raise _Rejected("schema")
    day, hour, minute, second, digits, sign, offset_hour, offset_minute = match.groups()
    if int(hour) > 23 or int(minute) > 59 or int(second) > 59:
        raise _Rejected("schema")
    if int(offset_hour or 0) > 23 or int(offset_minute or 0) > 59:
        raise _Rejected("schema")
    days = _calendar_date(day).toordinal() - _EPOCH.toordinal()
    seconds = days * 86_400 + int(hour) * 3_600 + int(minute) * 60 + int(second)
    offset = int(offset_hour or 0) * 3_600 + int(offset_minute or 0) * 60
    seconds += offset if sign == "-" else -offset
    return seconds * _SECOND + int((digits or "").ljust(6, "0")[:6])


def _needs(value: Any) -> dict[str, list[str] | None]:
    if not isinstance(value, dict):
        raise _Rejected("schema")
    named = {name: value[name] for name in ("basic", "expected", "latent") if name in value}
    return {name: None if codes is None else _codes(codes) for name, codes in named.items()}


def _attributes(value: Any) -> dict[str, str | None]:
    if not isinstance(value, dict):
        raise _Rejected("schema")
    return {_text(key): None if text is None else _text(text) for key, text in value.items()}


_ITEMS: Final = _between(0, 10**9, 0)
_Fields = Mapping[str, Callable[[Any], Any]]
_COMMON: Final[_Fields] = {"event_id": _event_id, "customer_id": _customer_id, "occurred_at": read_time}
_REQUIRED: Final[Mapping[str, _Fields]] = {
    "order": {"order_id": _order_id, "amount": _money, "currency": _currency},
    "order_cancelled": {"order_id": _order_id},
    "delivery": {"order_id": _order_id},
    "return": {"amount": _money, "currency": _currency},
    "complaint": {},
    "feedback": {"score": _between(0, 10, None)},
    "customer": {},
    "retraction": {"retracts": _event_id},
}
_OPTIONAL: Final[Mapping[str, _Fields]] = {
    "order": {
        "ordered_at": read_time,
        "cost": _money,
        "items": _ITEMS,
        "parcels": _ITEMS,
        "weight_kg": _weight,
        "services": _codes,
        "promised_at": read_time,
        "delivered_at": read_time,
        "region": _text,
        "channel": _text,
    },
    "order_cancelled": {"reason": _text},
    "delivery": {"promised_at": read_time, "picked_up_at": read_time, "delivered_at": read_time, "exception": _text},
    "return": {"order_id": _order_id, "items": _ITEMS, "reason": _text},
    "complaint": {"order_id": _order_id, "category": _text, "severity": _between(1, 5, 0), "text": _text},
    "feedback": {"kind": _one_of("nps", "csat", "survey"), "text": _text},
    "customer": {
        "name": _text,
        "subject_type": _one_of("company", "person"),
        "industry": _one_of("manufacturing", "retail", "ecommerce", "pharma", "electronics", "other"),
        "region": _text,
        "channel": _text,
        "account_manager": _text,
        "needs": _needs,
        "contract_type": _text,
        "contract_end": _calendar_date,
        "attributes": _attributes,
    },
    "retraction": {"reason": _text},
}
_TOO_OLD: Final = read_time("1990-01-01T00:00:00Z")


# --- from a message to an event -------------------------------------------------------------------------------------


def _cloud_attributes(parsed: Any, headers: tuple[tuple[str, bytes], ...]) -> dict[str, Any] | None:
    """The CloudEvents attributes and `data`, or None for a plain event. An attribute that cannot be read is `...`."""
    binary: dict[str, Any] = {}
    for name, value in headers:
        if name.startswith("ce_"):
            try:
                binary[name.removeprefix("ce_")] = value.decode("utf-8")
            except UnicodeDecodeError:
                binary[name.removeprefix("ce_")] = ...
    if "specversion" in binary:
        return {**binary, "data": parsed}
    if isinstance(parsed, dict) and parsed.get("specversion") is not None:
        return parsed
    return None


def _readable_customer(parsed: Any, headers: tuple[tuple[str, bytes], ...]) -> str | None:
    """The customer the message names, whatever else is wrong with it."""
    cloud = _cloud_attributes(parsed, headers)
    fields = parsed if cloud is None else cloud.get("data")
    named = fields.get("customer_id") if isinstance(fields, dict) else None
    if named is None and cloud is not None:
        named = cloud.get("subject")
    try:
        return _customer_id(named)
    except _Rejected:
        return None


def _event_type(value: Any) -> str:
    if _text(value) not in _REQUIRED:
        raise _Rejected("unknown_type")
    return str(value)


def _contract_event(parsed: Any, headers: tuple[tuple[str, bytes], ...]) -> dict[str, Any]:
    """The event in the plain form, which is also its content; raises `_Rejected`."""
    cloud = _cloud_attributes(parsed, headers)
    if cloud is None:
        if not isinstance(parsed, dict):
            raise _Rejected("schema")
        _event_type(parsed.get("type"))
        return parsed
    if cloud["specversion"] != "1.0":
        raise _Rejected("schema")
    event_type = _event_type(_text(cloud.get("type")).rpartition(".")[2])
    data = cloud.get("data")
    if not isinstance(data, dict):
        raise _Rejected("schema")
    event = {**data, "event_id": cloud.get("id"), "type": event_type, "occurred_at": cloud.get("time")}
    if event.get("customer_id") is None:
        event["customer_id"] = cloud.get("subject")
    return event


def _known_fields(event: dict[str, Any]) -> dict[str, Any]:
    """The fields of the event's type, checked and typed. A null stays only where it clears: in a `customer` event."""
    event_type = event["type"]
    required = {**_COMMON, **_REQUIRED[event_type]}
    fields: dict[str, Any] = {}
    for name, check in required.items():
        fields[name] = check(event.get(name))
    for name, check in _OPTIONAL[event_type].items():
        if event.get(name) is not None:
            fields[name] = check(event[name])
        elif name in event and event_type == "customer":
            fields[name] = None
    decimals = MINOR_UNITS.get(fields.get("currency", ""))
    for name in ("amount", "cost"):
        if name in fields and decimals is not None and fields[name].exponent < -decimals:
            raise _Rejected("schema", name)
    return fields


@dataclass(frozen=True, slots=True)
class _Applied:
    """One applied event."""

    event_id: str
    type: str
    customer_id: str
    #: microseconds since 1970
    occurred_at: int
    #: the business day it counts on
    day: date
    #: the business day of `occurred_at`
    occurred_day: date
    fields: dict[str, Any]
    content: dict[str, Any]
    #: base units for one unit of its currency, as it was when applied; None where it has no currency
    rate: Fraction | None

    @property
    def version(self) -> tuple[int, bytes]:
        """What decides between two events about the same thing."""
        return self.occurred_at, self.event_id.encode("utf-8")


@dataclass(frozen=True, slots=True)
class _Order:
    """A counting order with the two instants that deliveries may have set."""

    event: _Applied
    promised_at: int | None
    delivered_at: int | None


# --- the oracle -----------------------------------------------------------------------------------------------------


class Oracle:
    """Reads messages one at a time and answers for the events applied so far."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.erased: set[str] = set()
        self._rates: dict[tuple[str, date], Fraction] = {}
        self._counts = dict.fromkeys(OUTCOMES, 0)
        self._applied: dict[str, _Applied] = {}
        self._by_customer: dict[str, list[_Applied]] = {}
        self._days: list[date] = []
        """On which events of erased customers occurred."""
        #: customer: (the tier given by hand, the day on which it no longer counts)
        self._overrides: dict[str, tuple[str | None, date]] = {}
        self._zone = ZoneInfo(setting.timezone)
        self._base_decimals = MINOR_UNITS[setting.base_currency]
        self._base_unit: int = 10**self._base_decimals
        self.load_rates(setting.rates)

    # reading

    def read(self, message: Message, *, now: datetime) -> tuple[str, str | None]:
        """The message's outcome, and for `rejected` the reason code."""
        outcome, reason = self._judge(message, now)
        self._counts[outcome] += 1
        return outcome, reason

    def replay(self, message: Message, *, now: datetime) -> tuple[str, str | None]:
        """Read a rejected message once more; success moves it from `rejected` to its new outcome."""
        outcome, reason = self._judge(message, now)
        self._counts["rejected"] -= 1
        self._counts[outcome] += 1
        return outcome, reason

    def erase(self, customer_id: str) -> None:
        """Forget the customer and the ids of its events; later events for the id are suppressed."""
        self.erased.add(customer_id)
        forgotten = self._by_customer.pop(customer_id, [])
        # The day never moves back.
        self._days += [event.occurred_day for event in forgotten]
        for event in forgotten:
            del self._applied[event.event_id]

    def load_rates(self, rates: Iterable[tuple[str, str, str]]) -> None:
        """Add rates for events still to come; the last one given for a currency and day stands."""
        for currency, day, rate in rates:
            self._rates[currency, date.fromisoformat(day)] = Fraction(rate)

    def _judge(self, message: Message, now: datetime) -> tuple[str, str | None]:
        if not message.value:
            return "rejected", "empty"
        if len(message.value) > LARGEST_MESSAGE_BYTES:
            return "rejected", "too_large"
        try:
            parsed = read_json(message.value)
        except NotJson:
            return "rejected", "invalid_json"
        if _readable_customer(parsed, message.headers) in self.erased:
            return "suppressed", None
        try:
            content = _contract_event(parsed, message.headers)
            fields = _known_fields(content)
        except _Rejected as rejected:
            return "rejected", rejected.code
        known = self._applied.get(fields["event_id"])
        if known is not None:
            return ("duplicate", None) if known.content == content else ("rejected", "conflicting_duplicate")
        instants = [fields["occurred_at"]] + ([fields["ordered_at"]] if "ordered_at" in fields else [])
        if min(instants) < _TOO_OLD:
            return "rejected", "too_old"
        if max(instants) > (now - _EPOCH) // timedelta(microseconds=1) + FUTURE_TOLERANCE_SECONDS * _SECOND:
            return "rejected", "future"
        occurred_day = self._business_day(fields["occurred_at"])
        day = self._business_day(fields.get("ordered_at", fields["occurred_at"]))
        rate = None
        if "currency" in fields:
            rate = self._rate(fields["currency"], day)
            if rate is None:
                return "rejected", "unknown_currency"
        event = _Applied(
            event_id=fields["event_id"],
            type=content["type"],
            customer_id=fields["customer_id"],
            occurred_at=fields["occurred_at"],
            day=day,
            occurred_day=occurred_day,
            fields=fields,
            content=content,
            rate=rate,
        )
        self._applied[event.event_id] = event
        self._by_customer.setdefault(event.customer_id, []).append(event)
        return "applied", None

    def _rate(self, currency: str, day: date) -> Fraction | None:
        if currency not in MINOR_UNITS:
            return None
        if currency == self.setting.base_currency:
            return Fraction(1)
        days = [known for code, known in self._rates if code == currency and known <= day]
        return self._rates[currency, max(days)] if days else None

    def _business_day(self, instant: int) -> date:
        return (_EPOCH + timedelta(microseconds=instant)).astimezone(self._zone).date()

    # what stands

    @property
    def counts(self) -> dict[str, int]:
        """How many messages ended in each outcome."""
        return dict(self._counts)

    def as_of(self, now: datetime) -> date | None:
        """The current business day by the setting's clock."""
        if self.setting.clock == "system":
            return now.astimezone(self._zone).date()
        return max((*self._days, *(event.occurred_day for event in self._applied.values())), default=None)

    def customers(self) -> list[str]:
        """The known customers, in byte order."""
        return sorted(set(self._by_customer) - self.erased, key=str.encode)

    def _events(self, customer_id: str) -> list[_Applied]:
        return [] if customer_id in self.erased else self._by_customer.get(customer_id, [])

    def _orders(self, customer_id: str) -> list[_Order]:
        events = self._events(customer_id)
        versions: dict[str, list[_Applied]] = {}
        deliveries: dict[str, list[_Applied]] = {}
        for event in events:
            if event.type in ("order", "order_cancelled"):
                versions.setdefault(event.fields["order_id"], []).append(event)
            if event.type == "delivery":
                deliveries.setdefault(event.fields["order_id"], []).append(event)
        orders = []
        for order_id, known in versions.items():
            latest = max(known, key=lambda event: event.version)
            if latest.type == "order":
                witnesses = [latest, *deliveries.get(order_id, [])]
                promised_at, delivered_at = (
                    self._latest_of(witnesses, field) for field in ("promised_at", "delivered_at")
                )
                orders.append(_Order(latest, promised_at, delivered_at))
        return orders

    @staticmethod
    def _latest_of(events: list[_Applied], field: str) -> Any:
        """The field's value in the latest of the events that name it; None where none does."""
        naming = [event for event in events if field in event.fields]
        return max(naming, key=lambda event: event.version).fields[field] if naming else None

    def _standing(self, customer_id: str, event_type: str) -> list[_Applied]:
        """The customer's returns, complaints or feedback that no retraction takes back."""
        events = self._events(customer_id)
        retracted = {event.fields["retracts"] for event in events if event.type == "retraction"}
        return [event for event in events if event.type == event_type and event.event_id not in retracted]

    # money

    def _converted(self, amount: Fraction, event: _Applied) -> int:
        assert event.rate is not None
        # round() of a Fraction is half-even.
        return round(amount * event.rate * self._base_unit)

    def _amount(self, event: _Applied) -> int:
        return self._converted(event.fields["amount"].fraction(), event)

    def _profit(self, event: _Applied) -> int:
        return self._converted(event.fields["amount"].fraction() - event.fields["cost"].fraction(), event)

    def _money(self, minor_units: int) -> str:
        digits = str(abs(minor_units)).rjust(self._base_decimals + 1, "0")
        cut = len(digits) - self._base_decimals
        sign = "-" if minor_units < 0 else ""
        return sign + digits[:cut] + ("." + digits[cut:] if self._base_decimals else "")

    # metrics

    def metrics(self, customer_id: str, as_of: date) -> dict[str, Any]:
        """The JSON of `GET /customers/{customer_id}/metrics`."""
        return {
            "customer_id": customer_id,
            "as_of": as_of.isoformat(),
            "windows": {name: self._window(customer_id, as_of, days) for name, days in WINDOWS.items()},
            "lifetime": self._lifetime(customer_id, as_of),
        }

    def _window(self, customer_id: str, as_of: date, days: int) -> dict[str, Any]:
        def within(event: _Applied) -> bool:
            return 0 <= (as_of - event.day).days < days

        orders = [order for order in self._orders(customer_id) if within(order.event)]
        returns = [event for event in self._standing(customer_id, "return") if within(event)]
        complaints = [event for event in self._standing(customer_id, "complaint") if within(event)]
        feedback = [event for event in self._standing(customer_id, "feedback") if within(event)]
        gross = sum(self._amount(order.event) for order in orders)
        returned = sum(self._amount(event) for event in returns)
        profits = [self._profit(order.event) for order in orders if "cost" in order.event.fields]
        timed = [
            order.delivered_at <= order.promised_at
            for order in orders
            if order.delivered_at is not None and order.promised_at is not None
        ]
        scores = [event.fields["score"] for event in feedback]

        def total(field: str) -> Fraction:
            return sum((order.event.fields.get(field, Fraction(0)) for order in orders), Fraction(0))

        return {
            "orders": len(orders),
            "gross_revenue": self._money(gross),
            "returned_amount": self._money(returned),
            "net_revenue": self._money(gross - returned),
            "gross_profit": self._money(sum(profits)) if profits else None,
            "items": int(total("items")),
            "parcels": int(total("parcels")),
            "weight_kg": _nearest_double(total("weight_kg")),
            "returns": len(returns),
            "complaints": len(complaints),
            "return_rate": _ratio(len(returns), len(orders)),
            "complaint_rate": _ratio(len(complaints), len(orders)),
            "average_order_value": self._money(round(Fraction(gross, len(orders)))) if orders else None,
            "on_time_rate": _ratio(sum(timed), len(timed)),
            "feedback_score": _ratio(sum(scores, Fraction(0)), len(scores)),
        }

    def _lifetime(self, customer_id: str, as_of: date) -> dict[str, Any]:
        orders = [order.event for order in self._orders(customer_id) if order.event.day <= as_of]
        returns = [event for event in self._standing(customer_id, "return") if event.day <= as_of]
        days = sorted({event.day for event in orders})
        return {
            "first_order_day": days[0].isoformat() if days else None,
            "last_order_day": days[-1].isoformat() if days else None,
            "orders": len(orders),
            "net_revenue": self._money(sum(map(self._amount, orders)) - sum(map(self._amount, returns))),
            "recency_days": (as_of - days[-1]).days if days else None,
            "mean_days_between_orders": _ratio((days[-1] - days[0]).days, len(days) - 1) if days else None,
        }

    # tiers

    def net_revenue_365(self, as_of: date) -> dict[str, int]:
        """Every known customer's net revenue over the tier window, in minor units of the base currency."""
        sums = {}
        for customer_id in self.customers():
            orders = [order.event for order in self._orders(customer_id)]
            returns = self._standing(customer_id, "return")
            gross = sum(self._amount(event) for event in orders if _in_tier_window(event, as_of))
            sums[customer_id] = gross - sum(self._amount(event) for event in returns if _in_tier_window(event, as_of))
        return sums

    def gross_profit_365(self, as_of: date) -> dict[str, int | None]:
        """Every known customer's gross profit over the tier window; None where no order has a cost."""
        sums: dict[str, int | None] = {}
        for customer_id in self.customers():
            orders = [order.event for order in self._orders(customer_id)]
            costed = [event for event in orders if "cost" in event.fields and _in_tier_window(event, as_of)]
            sums[customer_id] = sum(map(self._profit, costed)) if costed else None
        return sums

    def orders_365(self, as_of: date) -> dict[str, int]:
        """Every known customer's orders over the tier window."""
        return {
            customer_id: sum(_in_tier_window(order.event, as_of) for order in self._orders(customer_id))
            for customer_id in self.customers()
        }

    def basis_365(self, as_of: date) -> Mapping[str, int | None]:
        """What the setting ranks by; None is unrated."""
        if self.setting.basis == "gross_profit":
            return self.gross_profit_365(as_of)
        if self.setting.basis == "orders":
            return self.orders_365(as_of)
        return self.net_revenue_365(as_of)

    def computed_tiers(self, as_of: date) -> dict[str, str]:
        """Every known customer's tier: "A", "B", "C" or "unrated"."""
        tiers = dict.fromkeys(self.customers(), "unrated")
        ranked = self._ranked(as_of)
        total = sum(value for value, _ in ranked)
        before = 0
        for value, customer_id in ranked:
            if before < self.setting.share_a * total:
                tiers[customer_id] = "A"
            elif before < self.setting.share_b * total:
                tiers[customer_id] = "B"
            else:
                tiers[customer_id] = "C"
            before += value
        return tiers

    def override(self, customer_id: str, tier: str | None, expires_on: date) -> None:
        """From now on a person has given the customer a tier (None: none), which counts before that day."""
        self._overrides[customer_id] = (tier, expires_on)

    def effective_tiers(self, as_of: date, closed: Mapping[date, Mapping[str, str]], grace_days: int) -> dict[str, str]:
        """Every known customer's tier that counts. `closed` is a diary: the computed tiers each day closed with."""
        tiers = {}
        for customer_id, computed in self.computed_tiers(as_of).items():
            given, expires_on = self._overrides.get(customer_id, (None, as_of))
            if given is not None and as_of < expires_on:
                tiers[customer_id] = given
                continue
            last_days = [closed.get(as_of - timedelta(days=back), {}) for back in range(1, grace_days + 1)]
            stood = [computed, *(day[customer_id] for day in last_days if customer_id in day)]
            tiers[customer_id] = min(stood, key=("A", "B", "C", "unrated").index)
        return tiers

    def cutoffs(self, as_of: date) -> dict[str, tuple[int, str] | None]:
        """The last customer in A and in B, as (what it is ranked by, customer id); None where the tier is empty."""
        tiers = self.computed_tiers(as_of)
        last: dict[str, tuple[int, str] | None] = {"A": None, "B": None}
        for value, customer_id in self._ranked(as_of):
            if tiers[customer_id] in last:
                last[tiers[customer_id]] = (value, customer_id)
        return last

    def _ranked(self, as_of: date) -> list[tuple[int, str]]:
        rated = [(value, customer_id) for customer_id, value in self.basis_365(as_of).items() if value and value > 0]
        return sorted(rated, key=lambda pair: (-pair[0], pair[1].encode()))

    # what the tests' model foretells

    def foretold(self, customer_id: str, as_of: date) -> tuple[int, str, int, Fraction] | None:
        """Churn probability in percent, segment, confidence in percent, minor units expected; None without an order.

        The odds of churn are days since the last order and one, to 30.7. Expected is 90 of 365 days' net revenue, where
        that is above 0, and one unit. The segment is the nearer of 0 and 1 to the root of complaints by orders (at most
        1); the confidence is what its distance is less than the other's, as a share.
        """
        orders = [order.event for order in self._orders(customer_id) if order.event.day <= as_of]
        if not orders:
            return None
        silent = (as_of - max(event.day for event in orders)).days + 1
        net = max(self.net_revenue_365(as_of)[customer_id], 0)
        complaints = sum(event.day <= as_of for event in self._standing(customer_id, "complaint"))
        place = math.sqrt(min(Fraction(complaints, len(orders)), Fraction(1)))
        near, far = sorted((place, 1 - place))
        return (
            round(100 * Fraction(silent) / (silent + Fraction(307, 10))),
            "content" if 4 * complaints <= len(orders) else "troubled",
            round(100 * (1 - near / far)),
            Fraction(net * 90, 365) + self._base_unit,
        )

    # profile

    def profile(self, customer_id: str) -> dict[str, Any]:
        """The customer's fields after merging; None where a field was never set or is cleared."""
        events = [event for event in self._events(customer_id) if event.type == "customer"]
        contract_end = self._latest_of(events, "contract_end")
        profile: dict[str, Any] = {
            name: self._latest_of(events, name)
            for name in ("name", "subject_type", "industry", "region", "channel", "account_manager", "contract_type")
        }
        orders = [order.event for order in self._orders(customer_id)]
        for name in ("region", "channel"):
            if profile[name] is None:
                profile[name] = self._latest_of(orders, name)
        attributes = {
            key: self._latest_part(events, "attributes", key)
            for event in events
            for key in (event.fields.get("attributes") or {})
        }
        return {
            **profile,
            "needs": {part: self._latest_part(events, "needs", part) for part in ("basic", "expected", "latent")},
            "contract_end": None if contract_end is None else contract_end.isoformat(),
            "attributes": {key: value for key, value in sorted(attributes.items()) if value is not None},
        }

    def services(self, customer_id: str) -> dict[str, int]:
        """How many of the customer's counting orders ask for each service."""
        found: dict[str, int] = {}
        for order in self._orders(customer_id):
            for service in set(order.event.fields.get("services", [])):
                found[service] = found.get(service, 0) + 1
        return found

    @staticmethod
    def _latest_part(events: list[_Applied], field: str, part: str) -> Any:
        """Like `_latest_of`, for one list or key inside a field; a null for the whole field clears every part."""
        naming = [event for event in events if field in event.fields]
        naming = [event for event in naming if event.fields[field] is None or part in event.fields[field]]
        if not naming:
            return None
        return (max(naming, key=lambda event: event.version).fields[field] or {}).get(part)


def _in_tier_window(event: _Applied, as_of: date) -> bool:
    return 0 <= (as_of - event.day).days < TIER_WINDOW_DAYS


def _ratio(above: int | Fraction, below: int) -> float | None:
    return _nearest_double(Fraction(above) / below) if below else None


def _nearest_double(value: Fraction) -> float:
    try:
        # The division of two integers is correctly rounded.
        return value.numerator / value.denominator
    except OverflowError:
        # JSON has no infinity, so the nearest number it can carry.
        return 1.7976931348623157e308
