"""A file of events becomes examples: what counts is what the ledger counts, and nothing later than the cut is known."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.builders import a_cancellation, a_complaint, a_customer, a_return, an_order

from segment_trainer import reading, sources
from segment_trainer.examples import Examples, Question
from segment_trainer.failures import NotPossible
from segment_trainer.reading import EventFile
from segmentation.calendar import parse_instant

CUT = date(2026, 4, 1)
QUESTION = Question(CUT, 30)
NOW = parse_instant("2026-12-31T00:00:00Z") or 0


def on(day: str, **fields: Any) -> dict[str, Any]:
    """An order of a day, with ids of its own unless it names some."""
    customer = fields.setdefault("customer_id", "C-1")
    return an_order(**{"event_id": f"{customer}-{day}", "order_id": day, "occurred_at": f"{day}T00:00:00Z", **fields})


END = on("2026-06-30", customer_id="Z-last")


@contextmanager
def load(tmp_path: Path, events: Sequence[dict[str, Any] | str], **options: Any) -> Iterator[EventFile]:
    path = tmp_path / "events.ndjson"
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in events) + "\n\n")
    arguments = {"rates_file": None, "currency": None, "time_zone": "UTC", "now": NOW, **options}
    with EventFile(lambda _: None) as found:
        found.load(path, **arguments)
        yield found


def examples(tmp_path: Path, events: Sequence[dict[str, Any] | str], **options: Any) -> Examples:
    with load(tmp_path, events, **options) as found:
        return found.examples([QUESTION])[0]


def test_the_horizon_begins_at_the_cut_and_ends_after_its_days(tmp_path):
    days = ("2026-03-31", "2026-04-01", "2026-04-30", "2026-05-01")
    amounts = ("1", "10", "100", "1000")
    found = examples(tmp_path, [on(day, amount=amount) for day, amount in zip(days, amounts, strict=True)] + [END])
    assert found.customer_ids == ["C-1"]
    assert found.column("net").tolist() == [1]
    assert found.value.tolist() == [110]
    assert found.churned.tolist() == [False]


def test_silence_is_churn_and_a_return_is_no_order(tmp_path):
    back = a_return(occurred_at="2026-04-10T00:00:00Z", amount="40.00")
    found = examples(tmp_path, [on("2026-03-01"), back, END])
    assert found.churned.tolist() == [True]
    assert found.value.tolist() == [-40]


def test_what_becomes_known_after_the_cut_changes_no_feature(tmp_path):
    plain = [on("2026-03-01"), on("2026-03-05"), END]
    later = [
        *plain,
        a_cancellation(event_id="later-1", order_id="2026-03-05", occurred_at="2026-04-02T00:00:00Z"),
        on("2026-03-20", event_id="later-2", occurred_at="2026-04-02T00:00:00Z", ordered_at="2026-03-20T00:00:00Z"),
        a_complaint(event_id="later-3", occurred_at="2026-04-01T00:00:00Z"),
    ]
    blind, seeing = examples(tmp_path, plain), examples(tmp_path, later)
    assert (blind.features == seeing.features).all()
    # an order of before the cut that was told later is no order of the horizon either
    assert seeing.value.tolist() == [0]


def test_a_cancellation_within_the_horizon_takes_its_order_back(tmp_path):
    cancelled = a_cancellation(order_id="2026-04-05", occurred_at="2026-04-20T00:00:00Z")
    found = examples(tmp_path, [on("2026-03-01"), on("2026-04-05"), cancelled, END])
    assert (found.churned.tolist(), found.value.tolist()) == ([True], [0])


def test_only_the_latest_version_of_an_order_counts(tmp_path):
    corrected = on("2026-03-01", event_id="corrected", occurred_at="2026-03-02T00:00:00Z", amount="7.00")
    assert examples(tmp_path, [corrected, on("2026-03-01"), END]).column("net").tolist() == [7]


def test_repeats_count_once_whoever_uses_the_id(tmp_path):
    mine, other = on("2026-03-01"), on("2026-03-01", customer_id="C-2", event_id="C-1-2026-03-01")
    with load(tmp_path, [mine, mine, {**mine, "amount": "5.00"}, other, END]) as found:
        assert found.read.messages == 5
        assert (found.read.applied, found.read.repeated) == (2, 3)
        assert found.examples([QUESTION])[0].customer_ids == ["C-1"]


def test_known_customers_without_an_order_are_counted_and_left_out(tmp_path):
    described = a_customer(customer_id="C-2", occurred_at="2026-03-01T00:00:00Z", name="N")
    found = examples(tmp_path, [on("2026-03-01"), described, END])
    assert (found.customer_ids, found.without_orders) == (["C-1"], 1)


def test_the_base_currency_is_the_most_frequent_one(tmp_path):
    euros = [on(f"2026-03-0{day}", currency="EUR") for day in (1, 2)]
    yen = on("2026-03-03", currency="JPY", amount="1000")
    with load(tmp_path, [*euros, yen, {**END, "currency": "EUR"}]) as found:
        assert found.base_currency == "EUR"
        assert found.read.refused == {"unknown_currency": 1}
        assert found.read.unconverted == {"JPY": 1}
        assert found.examples([QUESTION])[0].column("net").tolist() == [200]


def test_with_rates_nothing_is_left_out(tmp_path):
    rates = tmp_path / "rates.csv"
    rates.write_text("currency,day,rate\nEUR,2026-01-01,160\n")
    events = [on("2026-03-01", currency="EUR", amount="2.00"), {**END, "currency": "JPY", "amount": "1"}]
    with load(tmp_path, events, rates_file=rates, currency="JPY") as found:
        assert (found.read.applied, found.read.unconverted) == (2, {})
        assert found.examples([QUESTION])[0].column("net").tolist() == [320]


def test_every_message_has_one_outcome(tmp_path):
    events: list[dict[str, Any] | str] = [
        on("2026-03-01"),
        "{",
        json.dumps({"type": "x"}),
        on("2031-01-01"),
        on("1980-01-01"),
        END,
    ]
    with load(tmp_path, events) as found:
        assert found.read.refused == {"invalid_json": 1, "unknown_type": 1, "future": 1, "too_old": 1}
        assert found.read.messages == found.read.applied + found.read.repeated + found.read.refused.total()
        assert (found.first_day, found.last_day) == (date(2026, 3, 1), date(2026, 6, 30))


def test_a_gzipped_file_in_any_order_that_goes_to_disk_gives_the_same(tmp_path, monkeypatch):
    events = [on(f"2026-0{month}-1{day}", customer_id=f"C-{day}") for month in (1, 2, 3, 4) for day in range(8)]
    plain = examples(tmp_path, [*events, END])
    monkeypatch.setattr(reading, "_HELD_EVENTS", sources.PARTS)
    packed = tmp_path / "events.gz"
    packed.write_bytes(gzip.compress("\n".join(json.dumps(each) for each in [END, *reversed(events)]).encode()))
    with EventFile(lambda _: None) as found:
        found.load(packed, rates_file=None, currency=None, time_zone="UTC", now=NOW)
        spilled = found.examples([QUESTION])[0]
    assert list(plain.customer_ids) == list(spilled.customer_ids) == [f"C-{day}" for day in range(8)]
    for one, other in ((plain.features, spilled.features), (plain.value, spilled.value)):
        assert np.array_equal(one, other)


def test_several_questions_are_answered_in_one_pass(tmp_path):
    events = [on("2026-01-01"), on("2026-03-01"), on("2026-04-05"), END]
    questions = [QUESTION, Question(date(2026, 2, 1), 30), Question(date(2026, 3, 1), 31)]
    with load(tmp_path, events) as found:
        together = found.examples(questions)
        alone = [found.examples([question])[0] for question in questions]
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one.features, other.features)
        assert np.array_equal(one.value, other.value)
    assert [each.value.tolist() for each in together] == [[100], [100], [100]]


def test_folds_depend_on_the_id_alone_and_are_about_equal(tmp_path):
    found = examples(tmp_path, [on("2026-03-01", customer_id=f"C-{number:04d}") for number in range(1_000)] + [END])
    folds = found.folds()
    assert (folds == found.at(np.arange(1_000)[::-1]).folds()[::-1]).all()
    assert np.bincount(folds, minlength=5).min() > 150


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        (Question(date(2026, 3, 1), 10), "the cut must be 2026-03-02 or later"),
        (Question(date(2026, 7, 1), 10), "the cut must be 2026-06-30 or earlier, not 2026-07-01"),
        (Question(CUT, 365), "possible are 91 days"),
        (Question(date(2026, 6, 20), 30), "possible are 11 days, or with this horizon a cut up to 2026-06-01"),
        (Question(CUT, 0), "at least 1 is expected"),
    ],
)
def test_what_the_file_does_not_hold_is_refused_with_what_it_holds(tmp_path, question, sentence):
    with load(tmp_path, [on("2026-03-01"), END]) as found, pytest.raises(NotPossible) as refusal:
        found.check(question)
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(("events", "sentence"), [([], "it is empty"), (["{"], "1 invalid_json")])
def test_a_file_without_events_is_refused(tmp_path, events, sentence):
    with pytest.raises(NotPossible, match=sentence), load(tmp_path, events):
        pass


def test_a_file_that_is_not_there_or_broken_is_refused(tmp_path):
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(json.dumps(END).encode())[:-9])
    for path in (tmp_path / "none", broken):
        with EventFile(lambda _: None) as found, pytest.raises(NotPossible, match="cannot be read"):
            found.load(path, rates_file=None, currency=None, time_zone="UTC", now=NOW)
