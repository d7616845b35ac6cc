"""A day of scarce capacity, dispatched three ways: strictly by tier, first come first served, and as the policy has it.

Laws: the same arguments give the same figures; all three ways see the same orders, at the same moments, with the same
capacity; the third is `segmentation.dispatch`, as the API calls it.

`local_stack.simulation` makes the trade. What customers brought in the weeks before the day places them in tiers, and
whoever did not order in them is unknown. Orders of the day may go from the moment they come. Every quarter of an hour a
wave goes, all of one size: together the waves of 24 hours take a share of the orders of that day, so that a queue grows
all day; afterwards nothing comes any more, and what is left goes in waves of that size.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from local_stack.simulation import simulate
from segmentation import tiering
from segmentation.calendar import parse_instant
from segmentation.dispatch import WaitingOrder, prioritise
from segmentation.fields import CustomerId
from segmentation.policy import Policy, parse
from segmentation.segments import Lifecycle
from segmentation.tiering import RANK, TIERS, Tier, TierRules

SEED: Final = 20_261_122
START: Final = datetime(2026, 11, 2, tzinfo=UTC)
WEEKS: Final = 2
CUSTOMERS: Final = 3_000
EVENTS_A_DAY: Final = 5_000
CAPACITY: Final = 0.85
"""Of the day's orders, what the day's waves take."""
JOURNEY: Final = timedelta(hours=20)
"""An order keeps its promise where it goes so long before it."""
_WAVE: Final = 15 * 60 * 1_000_000
_WAVES_A_DAY: Final = 96
_LEVELS: Final = {Tier.A: "vip", Tier.B: "stable", Tier.C: "standard", Tier.UNRATED: "welcome"}
_BEGIN: Final = "<!-- what follows is written by `make dispatch-simulation` -->"
_END: Final = "<!-- until here -->"
_COLOURS: Final = {Tier.A: "#c44e52", Tier.B: "#4c72b0", Tier.C: "#7a9e7e", Tier.UNRATED: "#c2a878"}
Minutes = npt.NDArray[np.float64]
Way = Callable[[Sequence[WaitingOrder], int], Sequence[int]]
"""Orders that wait at an instant -> their positions, the first that goes first."""


@dataclass(frozen=True, slots=True)
class Day:
    """What comes, and what can go."""

    orders: Sequence[WaitingOrder]
    """By the moment that they come."""
    begins: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way made of a day."""

    waited: Minutes
    """Of each order of the day."""
    kept: npt.NDArray[np.bool_]
    """Whether it went in time for its promise."""
    standstill: Mapping[Tier, float]
    """The most hours on end in which orders of the tier waited and none of them went."""


def make_day() -> Day:
    """The orders of the day, with tiers by what came before it."""
    begins = START + timedelta(weeks=WEEKS)
    value: dict[str, int] = {}
    coming: list[tuple[str, str, int, int]] = []
    for message in simulate(seed=SEED, customers=CUSTOMERS, start=START, events_per_day=EVENTS_A_DAY):
        if message.sent_at >= begins + timedelta(days=5):  # some are sent late
            break
        if message.type != "order":
            continue
        order = json.loads(message.value)
        if (occurred := _instant(order["occurred_at"])) < _microseconds(begins):
            value[message.customer_id] = value.get(message.customer_id, 0) + round(float(order["amount"]) * 100)
        elif occurred < _microseconds(begins + timedelta(days=1)):
            goes_by = _instant(order["promised_at"]) - JOURNEY // timedelta(microseconds=1)
            coming.append((order["order_id"], message.customer_id, occurred, goes_by))
    customers = [CustomerId(each) for each in value]
    ranking = tiering.rank(np.array(list(value.values()), dtype=np.int64), customers, TierRules())
    tiers = {each: TIERS[rank] for each, rank in zip(customers, ranking.tiers.tolist(), strict=True)}
    source = resources.files("segmentation").joinpath("policies/default.toml").read_text(encoding="utf-8")
    policy = parse(source, version=1)
    orders = {}
    for order_id, customer_id, occurred, goes_by in coming:
        tier = tiers.get(CustomerId(customer_id), Tier.UNRATED)
        level = policy.service_levels[_LEVELS[tier]]
        lifecycle = Lifecycle.ACTIVE if customer_id in tiers else None
        # A message that was sent twice is one order.
        orders[order_id] = WaitingOrder(
            order_id, customer_id, tier, level.code, level.dispatch_priority, lifecycle, goes_by, occurred
        )
    return Day(sorted(orders.values(), key=_came), _microseconds(begins), policy)


def strictly_by_tier(orders: Sequence[WaitingOrder], at: int) -> Sequence[int]:  # noqa: ARG001 - no clock needed
    """A before B before C, whoever waited longer first."""
    return sorted(range(len(orders)), key=lambda each: (RANK[orders[each].tier], *_came(orders[each])))


def first_come(orders: Sequence[WaitingOrder], at: int) -> Sequence[int]:  # noqa: ARG001 - no clock needed
    """Whoever came first."""
    return sorted(range(len(orders)), key=lambda each: _came(orders[each]))


def by_policy(policy: Policy) -> Way:
    """As the API ranks."""
    return lambda orders, at: prioritise(orders, policy.dispatch, at=at).positions


def dispatch(day: Day, way: Way) -> Outcome:
    """Lets wave after wave go until nothing waits."""
    went: dict[str, int] = {}
    waiting: list[WaitingOrder] = []
    coming = list(reversed(day.orders))
    still, longest = dict.fromkeys(TIERS, 0), dict.fromkeys(TIERS, 0)
    of_a_day = int(len(day.orders) * CAPACITY)
    wave = 0
    while coming or waiting:
        wave += 1
        at = day.begins + wave * _WAVE
        while coming and _came(coming[-1])[0] <= at:
            waiting.append(coming.pop())
        size = of_a_day * wave // _WAVES_A_DAY - of_a_day * (wave - 1) // _WAVES_A_DAY
        going = set(way(waiting, at)[:size])
        went |= {waiting[each].order_id: at for each in going}
        for tier in TIERS:
            waits = [each for each, order in enumerate(waiting) if order.tier is tier]
            still[tier] = still[tier] + 1 if waits and going.isdisjoint(waits) else 0
            longest[tier] = max(longest[tier], still[tier])
        waiting = [order for each, order in enumerate(waiting) if each not in going]
    waited = [(went[order.order_id] - _came(order)[0]) / 60e6 for order in day.orders]
    kept = [went[order.order_id] <= (order.promised_at or 0) for order in day.orders]
    hours = {tier: waves * _WAVE / 3_600e6 for tier, waves in longest.items()}
    return Outcome(np.array(waited), np.array(kept), hours)


def compare(day: Day) -> Mapping[str, Outcome]:
    """The three ways."""
    ways = {"strictly by tier": strictly_by_tier, "first come": first_come, "Tierline": by_policy(day.policy)}
    return {name: dispatch(day, way) for name, way in ways.items()}


def table(day: Day, outcomes: Mapping[str, Outcome]) -> str:
    """The figures, for the documentation."""
    tiers = np.array([order.tier for order in day.orders])
    lines = [
        f"{len(day.orders):,} orders of one day, capacity for {CAPACITY:.0%} of them within it; waiting in hours.",
        "",
        "| way | tier | orders | median | 95 % | longest | promises kept | longest standstill |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, outcome in outcomes.items():
        for tier in (*TIERS, None):
            of = tiers == tier if tier else np.full(len(tiers), fill_value=True)
            hours = outcome.waited[of] / 60
            shown = " | ".join(f"{each:.1f}" for each in (np.median(hours), np.percentile(hours, 95), hours.max()))
            still = outcome.standstill[tier] if tier else max(outcome.standstill.values())
            lines.append(
                f"| {name} | {tier or 'all'} | {of.sum():,} | {shown} | {outcome.kept[of].mean():.1%} | {still:.2f} |"
            )
    return "\n".join(lines)


def plot(path: Path, day: Day, outcomes: Mapping[str, Outcome]) -> None:
    """What share of each tier's orders had gone after how many hours."""
    tiers = np.array([order.tier for order in day.orders])
    with mpl.rc_context({"svg.hashsalt": "tierline", "svg.fonttype": "none", "font.size": 10, "axes.grid": True}):
        figure = Figure(figsize=(9.0, 3.4), layout="constrained")
        panels = figure.subplots(1, len(outcomes), sharey=True)
        longest = max(outcome.waited.max() for outcome in outcomes.values()) / 60
        for axes, (name, outcome) in zip(panels, outcomes.items(), strict=True):
            for tier in TIERS:
                hours = np.sort(outcome.waited[tiers == tier]) / 60
                steps = np.linspace(0, 1, 201)
                axes.plot(np.quantile(hours, steps), steps, color=_COLOURS[tier], label=tier.value)
            axes.set(title=name, xlabel="hours waited", xlim=(0, longest), ylim=(0, 1.02))
        panels[0].set_ylabel("share of the tier's orders gone")
        panels[-1].legend(loc="lower right")
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def documented(text: str) -> str:
    """The part of the documentation that is written here."""
    return text.partition(_BEGIN)[2].partition(_END)[0].strip()


def document(text: str, figures: str) -> str:
    """The documentation with these figures."""
    before, _, rest = text.partition(_BEGIN)
    return f"{before}{_BEGIN}\n\n{figures}\n\n{_END}{rest.partition(_END)[2]}"


def _came(order: WaitingOrder) -> tuple[int, str]:
    return order.waiting_since or 0, order.order_id


def _instant(text: str) -> int:
    instant = parse_instant(text)
    assert instant is not None  # noqa: S101 - of our own making
    return instant


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def main() -> None:
    """Compares, prints, and writes docs/dispatch.md and its plot."""
    parser = argparse.ArgumentParser(prog="python -m bench.dispatch_day", description=__doc__)
    parser.add_argument("--docs", type=Path, help="write the figures and the plot below this directory")
    docs: Path | None = parser.parse_args().docs
    day = make_day()
    outcomes = compare(day)
    figures = table(day, outcomes)
    print(figures)  # noqa: T201 - for whoever asked
    if docs is not None:
        plot(docs / "dispatch" / "waiting.svg", day, outcomes)
        page = docs / "dispatch.md"
        page.write_text(document(page.read_text(encoding="utf-8"), figures), encoding="utf-8")


if __name__ == "__main__":
    main()
