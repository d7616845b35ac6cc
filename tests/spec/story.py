"""What was told by a table of events, held against tables of what must come out.

The way of every event is the product's own: bytes are decoded, judged, settled and counted, the day buckets rolled,
the figures assessed. Only the store is missing: what it would keep is kept here.

Laws: what is told is told in every order (in some orders, where there are more than four events) and in batches of one
and of all, and must come to the same; each table is one example of the rule that its test states.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from tests.spec.tables import Row, agrees, rows
from tests.support.builders import as_json

from segmentation import assessment, metrics, tiering
from segmentation.assessment import Snapshot
from segmentation.buckets import DayBucket
from segmentation.calendar import BusinessCalendar, instant_of
from segmentation.counting import Counted, count, profile_fields
from segmentation.envelopes import Headers
from segmentation.events import EventKey, Reject, decode
from segmentation.fields import CustomerId
from segmentation.metrics import BucketTable, Metrics
from segmentation.money import Rates, parse_rates
from segmentation.outcomes import Delivery, Outcome, Partition, Reading, judge, settle
from segmentation.policy import Policy
from segmentation.risk import look_ahead
from segmentation.scoring import Model
from segmentation.tiering import TIERS, Tier, TierRules

NOW = datetime(2035, 1, 1, tzinfo=UTC)
_PARTITION = Partition("logistics.orders", 0)
_ORDERS_TRIED_IN_FULL = 4
_WIRE_NAMES = {
    "id": "event_id",
    "event": "type",
    "customer": "customer_id",
    "at": "occurred_at",
    "order": "order_id",
    "ordered": "ordered_at",
    "promised": "promised_at",
    "delivered": "delivered_at",
}
_INSTANTS = ("occurred_at", "ordered_at", "promised_at", "delivered_at")
_NUMBERS = ("items", "parcels", "score", "severity", "weight_kg")
_MONEY_TYPES = ("order", "return")


def event_of(row: Row, number: int) -> dict[str, Any]:
    """The event a row tells: an empty cell is an absent field, `null` is null, a day alone is its noon in UTC."""
    event: dict[str, Any] = {"event_id": f"e{number}", "customer_id": "C-1"}
    for column, cell in row.items():
        name = _WIRE_NAMES.get(column, column)
        if cell == "":
            continue
        group, _, member = name.partition(".")
        if cell == "null":
            value: Any = None
        elif name in _INSTANTS:
            value = _instant(cell)
        elif name in _NUMBERS:
            value = Decimal(cell)
        elif group == "needs":
            value = cell.split(" ")
        else:
            value = cell
        if member:
            event.setdefault(group, {})[member] = value
        else:
            event[name] = value
    if event["type"] in _MONEY_TYPES:
        event.setdefault("currency", "CNY")
    return event


def _instant(cell: str) -> str:
    day, _, time = cell.partition(" ")
    if "T" in day:
        return cell
    return f"{day}T{time or '12:00'}:00Z"


@dataclass(slots=True)
class Store:
    """What is kept between batches."""

    rates: Rates
    calendar: BusinessCalendar
    suppressed: set[CustomerId] = field(default_factory=set)
    known: dict[EventKey, bytes] = field(default_factory=dict)
    counted: Counted = field(default_factory=Counted)
    rejects: list[Reject] = field(default_factory=list)

    def record(self, messages: Iterable[tuple[bytes | None, Headers]], *, now: datetime = NOW) -> Mapping[Outcome, int]:
        """Reads one batch of messages; returns how many ended in which outcome."""
        readings = [
            Reading(Delivery(_PARTITION, offset, value, headers), decode(value, headers))
            for offset, (value, headers) in enumerate(messages)
        ]
        judged = judge(
            readings, suppressed=self.suppressed, rates=self.rates, calendar=self.calendar, now=instant_of(now)
        )
        new = set(judged.candidates) - set(self.known)
        settled = settle(judged, new=new, known={key: self.known[key] for key in judged.keys & self.known.keys()})
        for accepted in settled.applied:
            self.known[accepted.key] = accepted.delivery.fingerprint
        count(settled.applied, self.counted)
        self.rejects = [reject for _, reject in settled.rejects]
        return settled.counts.get(_PARTITION, {})

    def roll(self, as_of: date) -> Metrics:
        """Everyone's figures as of a day, in byte order of the ids."""
        buckets: dict[CustomerId, list[tuple[date, DayBucket]]] = {}
        for (customer_id, day), bucket in self.counted.bucket_changes.items():
            buckets.setdefault(customer_id, []).append((day, bucket))
        return metrics.roll(BucketTable.of({key: buckets[key] for key in sorted(buckets)}), as_of)


def a_store(*, base: str = "CNY", zone: str = "UTC", rates: str = "") -> Store:
    """A store that has recorded nothing. `rates` is a table of currency, day and rate."""
    lines = ["currency,day,rate", *(",".join(row.values()) for row in rows(rates))] if rates else []
    dated = parse_rates(lines, base_currency=base) if rates else []
    return Store(Rates.of(base, dated), BusinessCalendar(zone))


def _orders_of(events: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    if len(events) <= _ORDERS_TRIED_IN_FULL:
        yield from itertools.permutations(events)
        return
    for start in range(0, len(events), -(-len(events) // 4)):
        turned = [*events[start:], *events[:start]]
        yield turned
        yield turned[::-1]


@dataclass(frozen=True, slots=True)
class Story:
    """The same events, however they came in."""

    stores: Sequence[Store]

    def shows(self, table: str) -> None:
        """Figures, a row a day, a window (or `lifetime`) and a customer (C-1 where the table names none)."""
        for store in self.stores:
            for row in rows(table):
                expected = dict(row)
                as_of, window = date.fromisoformat(expected.pop("as_of")), expected.pop("window")
                figures = _figures(store, as_of, expected.pop("customer", "C-1"))
                shown = figures["lifetime"] if window == "lifetime" else figures["windows"][window]
                for name, cell in expected.items():
                    assert agrees(cell, shown[name]), f"{name} is {shown[name]} as of {as_of} in {window}, not {cell}"

    def ranks(self, table: str, rules: TierRules | None = None) -> None:
        """The computed tiers, a row a day and a customer."""
        rules = rules or TierRules()
        for store in self.stores:
            for row in rows(table):
                rolled = store.roll(date.fromisoformat(row["as_of"]))
                customer_ids = rolled.customer_ids
                values = metrics.column(
                    [assessment.ranked_value(rolled, rules.basis, each) or 0 for each in range(len(customer_ids))]
                )
                ranking = tiering.rank(values, customer_ids, rules)
                position = list(customer_ids).index(CustomerId(row["customer"]))
                tier = TIERS[ranking.tiers[position]]
                assert tier == row["tier"], f"{row['customer']} is {tier} as of {row['as_of']}, not {row['tier']}"
                cut_off = ranking.cutoffs.assign(int(values[position]), CustomerId(row["customer"]))
                assert cut_off is tier, "the cut-offs say the same as the ranking"

    def decides(self, table: str, policy: Policy, model: Model | None = None) -> None:
        """What is decided: `as_of`, `customer` and `tier` (computed) are given, the other columns expected."""
        for store in self.stores:
            for row in rows(table):
                snapshot = _assess(store, row, policy, model)
                outlook = snapshot.outlook
                said = {
                    "lifecycle": snapshot.lifecycle,
                    "segment": snapshot.segment,
                    "service_level": snapshot.service_level,
                    "reasons": ", ".join(reason.text("en") for reason in snapshot.segment_reasons),
                    "service_reasons": ", ".join(reason.text("en") for reason in snapshot.service_reasons),
                    "changes_on": snapshot.due_on.isoformat(),
                    "shown": snapshot.shown_segment,
                    "churn": f"{outlook.churn_probability:.2f}" if outlook else "none",
                    "warning": "yes" if snapshot.churn_warning else "no",
                    "why": snapshot.reasons("en")[-1],
                }
                for name in set(row) & set(said):
                    assert said[name] == row[name], f"{name} is {said[name]}, not {row[name]}"

    def describes(self, table: str) -> None:
        """The profile, a row a customer, field and value; `none` for a field without a value."""
        for store in self.stores:
            for row in rows(table):
                customer_id = CustomerId(row.get("customer", "C-1"))
                value = profile_fields(store.counted.profiles.get(customer_id, {})).get(row["field"])
                shown = " ".join(value) if isinstance(value, list) else value
                assert agrees(row["value"], shown), f"{row['field']} is {shown}, not {row['value']}"


def told(table: str, *, base: str = "CNY", zone: str = "UTC", rates: str = "") -> Story:
    """Tells the events of a table, every one of which must be applied."""
    messages = [as_json(event_of(row, number)) for number, row in enumerate(rows(table), start=1)]
    stores: list[Store] = []
    for order in _orders_of(messages):
        together, one_by_one = (a_store(base=base, zone=zone, rates=rates) for _ in range(2))
        counts = together.record((message, ()) for message in order)
        assert counts == {Outcome.APPLIED: len(order)}, f"not all applied: {together.rejects}"
        for message in order:
            one_by_one.record([(message, ())])
        stores += [together, one_by_one]
    return Story(stores)


def _figures(store: Store, as_of: date, customer_id: str) -> dict[str, Any]:
    rolled = store.roll(as_of)
    if customer_id not in rolled.customer_ids:
        rolled = metrics.roll(BucketTable.of({CustomerId(customer_id): []}), as_of)
    row = list(rolled.customer_ids).index(CustomerId(customer_id))
    shown = rolled.describe(row, decimals=store.rates.decimals)
    json.dumps(shown, allow_nan=False)
    return shown


def _assess(store: Store, row: Row, policy: Policy, model: Model | None) -> Snapshot:
    customer_id, as_of = CustomerId(row["customer"]), date.fromisoformat(row["as_of"])
    buckets = [(day, bucket) for (owner, day), bucket in store.counted.bucket_changes.items() if owner == customer_id]
    table = BucketTable.of({customer_id: buckets})
    return assessment.assess(
        *(metrics.roll(table, as_of), {}, policy),
        now=NOW,
        computed={customer_id: Tier(row["tier"])},
        outlooks=look_ahead(model, table, as_of, decimals=policy.decimals),
    )[0]
