"""`segment-trainer evaluate` from a file to its answer, and what it does with odd files."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from local_stack.simulation import Traffic
from segment_trainer import __main__ as trainer
from segment_trainer import classics, evaluation, measures, models, segmenting
from segment_trainer.evaluation import METHODS

START = date(2025, 1, 1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes figures precise is not what is tested here."""
    monkeypatch.setattr(measures, "RESAMPLES", 4)
    monkeypatch.setattr(segmenting, "BOOTSTRAPS", 3)
    monkeypatch.setitem(models._TREES, "max_iter", 8)


def write(path: Path, orders: list[tuple[int, str, int]], currency: str = "JPY") -> Path:
    """Orders as day, customer, amount; all of them at midnight."""
    with path.open("w") as file:
        for number, (day, customer, amount) in enumerate(orders):
            at = (START + timedelta(days=day)).isoformat()
            event = {
                "event_id": f"e-{number}",
                "type": "order",
                "customer_id": customer,
                "order_id": f"o-{number}",
                "occurred_at": f"{at}T00:00:00Z",
                "amount": str(amount),
                "currency": currency,
            }
            file.write(json.dumps(event) + "\n")
    return path


def trade(customers: int, days: int, seed: int = 4) -> list[tuple[int, str, int]]:
    chance = np.random.default_rng(seed)
    orders = []
    for number in range(customers):
        rate, usual = chance.gamma(1, 1 / 25), chance.lognormal(8, 1)
        day = float(chance.integers(0, days))
        while day < days:
            orders.append((int(day), f"C-{number}", int(usual * chance.lognormal(0, 0.4)) + 1))
            if chance.random() < 0.1:
                break
            day += chance.exponential(1 / rate)
    return sorted(orders)


def evaluate(capsys: pytest.CaptureFixture[str], path: Path, cut: int, horizon: int, *more: str) -> dict[str, Any]:
    at = (START + timedelta(days=cut)).isoformat()
    trainer.main(["evaluate", "--events", str(path), "--cut", at, "--horizon", str(horizon), "--json", *more])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def refusal(*arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        trainer.main(["evaluate", *arguments])
    return str(ended.value.code)


def figure(answer: dict[str, Any], part: str, method: str, name: str) -> float:
    found = answer[part][method][name]["figure"]
    assert isinstance(found, float)
    return found


def test_a_long_file_is_learnt_from_earlier_cuts(tmp_path, capsys):
    """Another currency, day-only times, no returns; and asked twice, the same answer."""
    path = write(tmp_path / "events", trade(600, 400))
    answer = evaluate(capsys, path, 340, 60)
    assert answer["base_currency"] == "JPY"
    assert answer["messages"]["read"] == answer["messages"]["applied"]
    assert answer["training"]["scheme"] == "earlier_cuts"
    assert answer["training"]["cuts"] == [(START + timedelta(days=day)).isoformat() for day in (280, 189)]
    assert set(answer["churn"]) == set(answer["value"]) == set(answer["deciles"]) == set(METHODS)
    assert set(answer["model_versus"]) == set(METHODS) - {"model"}
    assert sum(each["customers"] for each in answer["deciles"]["model"]) == answer["customers"]
    assert figure(answer, "churn", "model", "auroc") > 0.65
    assert figure(answer, "value", "model", "spearman") > 0.3
    for method in METHODS:
        for interval in answer["value"][method].values():
            assert interval["low"] <= interval["high"]
    assert evaluate(capsys, path, 340, 60) == answer
    segments = answer["segments"]
    assert len(segments["profiles"]) == len(segments["model"]["segments"]) == segments["number"]
    assert sum(each["customers"] for each in segments["profiles"]) == answer["customers"]
    assert "returns" not in [each["facet"] for each in segments["model"]["facets"]]
    assert [each["segments"] for each in segments["candidates"]] == list(range(2, 9))
    assert segments["moved_in_a_month"]["customers"] > 300


def test_a_short_file_is_cross_validated_and_the_order_of_its_lines_decides_nothing(tmp_path, capsys):
    orders = trade(200, 150)
    answer = evaluate(capsys, write(tmp_path / "events", orders), 75, 75)
    assert answer["training"] == {
        "scheme": "cross_validation",
        "cuts": [(START + timedelta(days=75)).isoformat()],
        "examples": answer["customers"],
        "folds": 5,
    }
    again = evaluate(capsys, write(tmp_path / "reversed", orders[::-1]), 75, 75)
    assert (again["value"], again["segments"]) == (answer["value"], answer["segments"])


def test_what_is_fitted_on_a_sample_says_so_and_everyone_is_measured(tmp_path, capsys, monkeypatch):
    path = write(tmp_path / "events", trade(300, 150))
    whole = evaluate(capsys, path, 75, 75)
    assert set(whole["sampled"].values()) == {whole["customers"]}
    monkeypatch.setattr(classics, "MOST_FITTED", 90)
    monkeypatch.setattr(evaluation, "MOST_FITTED", 90)
    monkeypatch.setattr(measures, "MOST_RESAMPLED", 80)
    some = evaluate(capsys, path, 75, 75)
    assert some["sampled"] == {**whole["sampled"], "classics": 90, "intervals": 80}
    assert some["customers"] == whole["customers"] == sum(each["customers"] for each in some["deciles"]["bg_nbd"])
    assert figure(some, "value", "naive", "mae") == figure(whole, "value", "naive", "mae")
    assert figure(some, "value", "bg_nbd", "mae") != figure(whole, "value", "bg_nbd", "mae")


def test_simulated_logistics_with_a_currency_that_has_no_rate(tmp_path, capsys):
    start = datetime(2025, 1, 1, tzinfo=UTC)
    traffic = Traffic(seed=3, customers=150, start=start, events_per_day=40, foreign={"USD": 7.0})
    until = start + timedelta(days=200)
    path = tmp_path / "events"
    with path.open("wb") as file:
        for message in itertools.takewhile(lambda each: each.sent_at < until, traffic.messages()):
            file.write(message.value + b"\n")
    answer = evaluate(capsys, path, 120, 60)
    told = answer["messages"]
    assert answer["base_currency"] == "CNY"
    assert told["unconverted"] == {"USD": told["refused"]["unknown_currency"]}
    assert told["repeated"] > 0
    assert told["read"] == told["applied"] + told["repeated"] + sum(told["refused"].values())


def test_everyone_on_one_day_and_alike(tmp_path, capsys):
    """Ties in everything: each method gives all of them the same, and nothing is undefined that need not be."""
    alike = [(day, f"C-{number}", 100) for day in (0, 20) for number in range(80)]
    answer = evaluate(capsys, write(tmp_path / "events", alike), 10, 11)
    assert answer["churn_rate"] == 0
    assert answer["churn"]["model"]["auroc"]["figure"] is None
    assert answer["value"]["model"]["spearman"]["figure"] is None
    assert figure(answer, "churn", "model", "brier") < 0.01
    assert figure(answer, "value", "model", "mae") < 30
    assert (answer["segments"]["number"], answer["segments"]["verdict"]) == (1, "one_segment")


def test_nobody_comes_back(tmp_path, capsys):
    orders = [(number % 9, f"C-{number}", 100 + number) for number in range(80)] + [(60, "C-last", 1)]
    answer = evaluate(capsys, write(tmp_path / "events", orders), 10, 50)
    assert (answer["churn_rate"], answer["value_mean"]) == (1, 0)
    assert answer["value"]["model"]["total_ratio"]["figure"] is None


def test_the_table_says_how_was_trained_and_where_the_naive_rule_wins(tmp_path, capsys):
    path = write(tmp_path / "events", trade(150, 120))
    trainer.main(["evaluate", "--events", str(path), "--cut", "2025-03-01", "--horizon", "40"])
    shown = capsys.readouterr()
    for words in (
        "BG/NBD + Gamma-Gamma",
        "Trained at the same cut",
        "Fitted on",
        "naive rule",
        "OUR MODEL BY TENTHS",
        "AUROC",
        "SEGMENTS of like",
        "tier and segment",
    ):
        assert words in shown.out
    assert "measuring" in shown.err


def test_one_customer_is_too_few(tmp_path):
    path = write(tmp_path / "events", [(0, "C-1", 5), (9, "C-1", 5)])
    told = refusal("--events", str(path), "--cut", "2025-01-05", "--horizon", "3")
    assert told == ("segment-trainer: 1 customers had ordered before 2025-01-05; a comparison needs 50")


def test_a_horizon_beyond_the_data_says_what_is_possible(tmp_path):
    path = write(tmp_path / "events", [(0, "C-1", 5), (99, "C-1", 5)])
    told = refusal("--events", str(path), "--cut", "2025-02-01", "--horizon", "90")
    assert "possible are 69 days, or with this horizon a cut up to 2025-01-11" in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("option", "value"), [("--cut", "1.1.2025"), ("--horizon", "0"), ("--currency", "euro"), ("--time-zone", "Mars")]
)
def test_a_wrong_option_is_named(capsys, option, value):
    given = {"--events": "x", "--cut": "2025-01-01", "--horizon": "9", option: value}
    with pytest.raises(SystemExit):
        trainer.main(["evaluate", *itertools.chain.from_iterable(given.items())])
    assert f"argument {option}: {value!r}" in capsys.readouterr().err
