"""Live synthetic events: the pace, the time they are told at, ids that no other run has, and what the person reads."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from local_stack import summary
from local_stack.api import IngestStatus
from local_stack.cli import parser
from local_stack.data_directory import DataDirectory
from local_stack.failures import Interrupted
from local_stack.live import MOST_UNREAD, Figures, Pace, Seen, Simulation, TimeLine, Wanted
from local_stack.replay import Broker
from local_stack.topics import Topics

NOW = datetime(2026, 11, 22, 7, 21, 5, tzinfo=UTC)
STATUS = IngestStatus(
    events={"applied": 7, "duplicate": 0, "rejected": 0, "suppressed": 0},
    lag=0,
    next_offsets={},
    workers=frozenset(),
    tiers_current=True,
    customers=3,
    as_of="2011-12-09",
)


def _wanted(clock: str = "system", rate: float = 50) -> Wanted:
    return Wanted(rate, 7, clock=clock, currency="CNY")


class Site:
    """A simulation, a broker that takes everything, and clocks that move as it pauses."""

    def __init__(self, directory: DataDirectory, clock: str = "system", as_of: str | None = None, **more: Any) -> None:
        self.now, self.steady = NOW, 100.0
        self.until = 0.0
        self.sent: list[dict[str, Any]] = []
        self.sent_at: list[datetime] = []
        self.full = False
        self.shown: list[Figures] = []
        self.watch = SimpleNamespace(seen=Seen(1, STATUS))
        status = SimpleNamespace(as_of=as_of)
        self.simulation = Simulation(
            _wanted(clock, **more),
            topics=Topics.of({}),
            broker=Broker({}, forgets=False),
            api=SimpleNamespace(find_status=lambda: status, url=""),  # type: ignore[arg-type]
            directory=directory,
            rates=lambda _: {},
            now=lambda: self.now,
            pause=self._pass,
            steady_seconds=lambda: self.steady,
        )

    def _pass(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.steady += seconds
        if self.steady > self.until:
            raise Interrupted

    def run(self, seconds: float) -> None:
        self.until = self.steady + seconds
        with pytest.raises(Interrupted):
            self.simulation._send(self, self.watch, self)  # type: ignore[arg-type]

    # what a producer does
    def poll(self, _: float) -> None:
        """Nothing to call back."""

    def produce(self, _topic: str, value: bytes, *, key: bytes, on_delivery: Any) -> None:
        if self.full:
            raise BufferError
        event = json.loads(value)
        assert key.decode() == event["customer_id"]
        self.sent.append(event)
        self.sent_at.append(self.now)
        on_delivery(None, None)

    # what a display does
    def show(self, figures: Figures) -> None:
        self.shown.append(figures)

    def occurred(self) -> Iterator[tuple[datetime, datetime]]:
        for event, sent_at in zip(self.sent, self.sent_at, strict=True):
            yield datetime.fromisoformat(event["occurred_at"]), sent_at


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DataDirectory]:
    with DataDirectory(tmp_path / "stack") as directory:
        yield directory


def test_the_pace_is_kept_on_average(directory: DataDirectory) -> None:
    site = Site(directory)
    site.run(100)
    assert 0.9 < len(site.sent) / 100 / 50 < 1.1
    assert site.shown[-1].sent == len(site.sent)


def test_under_the_system_clock_it_occurs_now_and_never_later(directory: DataDirectory) -> None:
    site = Site(directory)
    site.run(60)
    behind = [sent_at - occurred for occurred, sent_at in site.occurred()]
    assert min(behind) >= timedelta(0)
    # but for what is sent late
    assert sum(each < timedelta(seconds=1) for each in behind) > 0.9 * len(behind)
    delivered = [event for event in site.sent if event["type"] == "delivery"]
    assert delivered


def test_under_the_clock_of_events_the_days_after_the_last_one_pass(directory: DataDirectory) -> None:
    site = Site(directory, "event", "2011-12-09")
    site.run(60)
    occurred = [each for each, _ in site.occurred()]
    assert min(occurred).date() == date(2011, 12, 10)
    # a day takes 10 s
    assert date(2011, 12, 14) <= max(occurred).date() <= date(2011, 12, 16)


def test_a_time_line_that_reaches_today_goes_on_as_now_with_ids_of_its_own(directory: DataDirectory) -> None:
    site = Site(directory, "event", "2026-11-20")
    first = site.simulation.prefix
    site.run(60)
    assert site.simulation.line.speed == 1
    assert site.simulation.prefix != first
    assert all(occurred <= sent_at for occurred, sent_at in site.occurred())
    assert {event["event_id"].rsplit("-E-")[0] for event in site.sent} == {first, site.simulation.prefix}


def test_without_history_the_clock_of_events_begins_a_year_ago() -> None:
    assert TimeLine.of(_wanted("event"), as_of=None, now=NOW).start == datetime(2025, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rate", "customers", "seconds_a_day"), [(0.5, 100, 200), (200, 2_000, 10), (10_000, 50_000, 5)]
)
@pytest.mark.parametrize("clock", ["system", "event"])
def test_there_are_as_many_customers_as_the_pace_can_feed(
    clock: str, rate: float, customers: int, seconds_a_day: float
) -> None:
    line = TimeLine.of(_wanted(clock, rate), as_of=date(2011, 12, 9), now=NOW)
    assert line.customers == customers
    assert line.seconds_a_day == pytest.approx(seconds_a_day)


def test_a_clock_set_back_or_a_long_sleep_begins_a_time_line_anew() -> None:
    line = TimeLine.of(_wanted(), as_of=None, now=NOW)
    for apart, over in ((0, False), (60, False), (-400, True), (400, True)):
        assert line.is_over(NOW, NOW + timedelta(seconds=apart)) is over


def test_time_that_nobody_looked_at_has_not_passed() -> None:
    line = TimeLine.of(_wanted(), as_of=None, now=NOW)
    pace = Pace(line, 10.0)
    assert pace.at(11.0) == NOW + timedelta(seconds=1)
    # a process was started again meanwhile
    assert pace.at(61.0) == NOW + timedelta(seconds=3)
    assert pace.at(62.0) == NOW + timedelta(seconds=4)
    pace.wait_at(NOW + timedelta(seconds=3.5))
    assert pace.at(62.5) == NOW + timedelta(seconds=4)


def test_a_broker_that_is_away_is_waited_for_and_not_drowned_when_it_is_back(directory: DataDirectory) -> None:
    site = Site(directory)
    site.run(20)
    site.full = True
    before = len(site.sent)
    site.run(60)
    assert len(site.sent) == before
    assert site.shown[-1].waiting_for == "Kafka"
    site.full = False
    site.run(10)
    assert 0.5 < (len(site.sent) - before) / 10 / 50 < 1.6
    assert site.shown[-1].waiting_for is None


def test_a_broker_that_forgets_is_never_far_ahead_of_its_reader(directory: DataDirectory) -> None:
    site = Site(directory, rate=2_000)
    site.simulation._broker = Broker({}, forgets=True)
    site.run(20)
    assert len(site.sent) == MOST_UNREAD
    assert site.shown[-1].waiting_for == "the worker"
    site.watch.seen = Seen(2, STATUS)
    site.run(20)
    assert len(site.sent) == 2 * MOST_UNREAD


def test_every_run_on_a_directory_has_ids_of_its_own_also_where_the_clock_went_back(directory: DataDirectory) -> None:
    runs = [Site(directory) for _ in range(3)]
    for site in runs:
        site.run(10)
    for field in ("event_id", "customer_id"):
        ids = [{event[field] for event in site.sent} for site in runs]
        assert len(set.union(*ids)) == sum(map(len, ids))
        assert all(each.startswith("SIM-2611220721") for each in set.union(*ids))
    assert all(event["synthetic"] is True for site in runs for event in site.sent)


def test_the_same_seed_gives_the_same_trade_and_another_another(directory: DataDirectory) -> None:
    amounts = []
    for seed in (1, 1, 2):
        site = Site(directory)
        site.simulation._wanted = Wanted(50, seed, clock="system", currency="CNY")
        site.simulation._begin(None)
        site.run(10)
        amounts.append([event.get("amount") for event in site.sent])
    assert amounts[0] == amounts[1] != amounts[2]


@contextmanager
def _printed(*, terminal: bool) -> Iterator[tuple[Console, io.StringIO]]:
    out = io.StringIO()
    yield Console(file=out, force_terminal=terminal, width=150, highlight=False), out


FIGURES = Figures(12_345, 12, 198.4, {"A": 1_170, "B": 20, "C": 3, "unrated": 9}, "2012-01-07")


def test_the_line_says_how_it_goes() -> None:
    told = "synthetic: 12,345 sent, lag 12, 198 applied a second; tiers A 1,170 B 20 C 3 (as of 2012-01-07)"
    assert summary.synthetic_line(FIGURES) == told
    with _printed(terminal=True) as (console, out):
        line = summary.LiveLine(console)
        line.show(FIGURES)
        line.close()
        line.close()
        assert told in out.getvalue()
    with _printed(terminal=False) as (console, out):
        summary.PlainLines(console, first_seconds=3_600).show(FIGURES)
        assert out.getvalue() == ""
        lines = summary.PlainLines(console, first_seconds=0, every_seconds=3_600)
        lines.show(FIGURES)
        lines.show(FIGURES)
        assert out.getvalue() == f"{told}\n"


def test_the_line_says_what_is_unknown_and_whom_it_waits_for() -> None:
    unknown = summary.synthetic_line(Figures(0, None, None, {}, None, "Kafka"))
    assert unknown == "synthetic: 0 sent, lag ?, ? applied a second; tiers ?; waiting for Kafka"


def test_the_banner_says_that_it_is_synthetic_and_how_to_turn_it_off(directory: DataDirectory) -> None:
    with _printed(terminal=False) as (console, out):
        site = Site(directory, "event", "2011-12-09")
        summary.print_synthetic_banner(console, site.simulation)
    for words in ("SYNTHETIC", "50 a second", "2011-12-10", site.simulation.prefix, "without --simulate", "--data-dir"):
        assert words in out.getvalue()


@pytest.mark.parametrize("pace", ["0", "-1", "nan", "inf", "fast", ""])
def test_a_pace_that_is_none_is_refused_with_what_to_give(pace: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["run", f"--simulate={pace}"])
    assert "is no pace: give a number of events a second above 0" in capsys.readouterr().err


def test_a_pace_and_a_seed_are_options_and_by_default_nothing_is_simulated() -> None:
    chosen = parser().parse_args(["run", "--simulate", "0.5", "--seed", "3"])
    assert (chosen.simulate, chosen.seed) == (0.5, 3)
    assert parser().parse_args(["run"]).simulate is None
