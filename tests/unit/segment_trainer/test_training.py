"""What is published is what scikit-learn made; who may publish it; and whether its customers are still the same."""

from __future__ import annotations

import copy
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from sklearn.cluster import KMeans
from tests.support.model_documents import a_document, some_features
from tests.unit.segment_trainer.test_evaluate import trade, write

from segment_trainer import __main__ as trainer
from segment_trainer import clusters, drift, judging, measures, models, segmenting, training
from segment_trainer.clusters import SegmentModel
from segment_trainer.examples import Examples, Question
from segment_trainer.failures import NotPossible
from segment_trainer.models import Learnt
from segment_trainer.reading import EventFile
from segmentation import scoring
from segmentation.calendar import instant_of
from segmentation.facets import scaled
from segmentation.features import COLUMNS, FEATURES, FeatureTable
from segmentation.fields import CustomerId
from segmentation.scoring import Model, logs, own_scale

NOW = datetime(2026, 6, 30, 8, tzinfo=UTC)
BUNDLED = Path(__file__).resolve().parents[3] / "data" / "online_retail_ii.ndjson.gz"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes figures precise is not what is tested here."""
    monkeypatch.setattr(measures, "RESAMPLES", 4)
    monkeypatch.setattr(segmenting, "BOOTSTRAPS", 3)
    monkeypatch.setitem(models._TREES, "max_iter", 8)


def generated(customers: int, seed: int) -> Examples:
    """Customers of chance, some of whose columns are all alike."""
    chance = np.random.default_rng(seed)
    values = np.round(chance.lognormal(2, 1.5, (customers, len(FEATURES))), 2)
    values[:, COLUMNS["complaints_365d"]] = 0
    values[:, COLUMNS["order_days"]] = chance.poisson(3, customers) + 1
    values[:, COLUMNS["tenure_days"]] += values[:, COLUMNS["recency_days"]]
    once = values[:, COLUMNS["order_days"]] == 1
    values[once, COLUMNS["tenure_days"]] = values[once, COLUMNS["recency_days"]]
    values[:, COLUMNS["net_365d"]] *= chance.choice([1, -1], customers, p=[0.9, 0.1])
    churned = chance.random(customers) < 1 / (1 + np.exp(2 - np.log(values[:, COLUMNS["recency_days"]])))
    value = np.where(churned, 0.0, np.abs(values[:, COLUMNS["net_365d"]]) * chance.lognormal(-1, 0.5, customers))
    ids = [CustomerId(f"C-{number}") for number in range(customers)]
    history = np.full(customers, 500.0)
    return Examples(Question(date(2026, 1, 1), 90), ids, values, churned, value, history)


@pytest.fixture(scope="module")
def bundled() -> Examples:
    with EventFile(lambda _: None) as events:
        events.load(BUNDLED, rates_file=None, currency=None, time_zone="UTC", now=instant_of(NOW))
        [examples] = events.examples([Question(date(2011, 6, 1), 90)])
    return examples


def by_scikit_learn(learnt: Learnt, asked: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Churn and value from the fitted estimators themselves."""
    fitted = learnt.fitted
    columns = scoring.widened(asked.features, fitted.silence, fitted.horizon_days)
    codes = np.column_stack(
        [
            np.searchsorted(edges, column, side="right")
            for edges, column in zip(fitted.bins.edges, columns.T, strict=True)
        ]
    ).astype(float)
    log_odds = np.zeros(len(asked))
    if fitted.logistic is not None and fitted.trees is not None:
        rows = (logs(columns).T - fitted.centre) / fitted.spread
        log_odds = (fitted.logistic.decision_function(rows) + fitted.trees.decision_function(codes)) / 2
    churn = 1 / (1 + np.exp(-(learnt.slope * log_odds + learnt.intercept)))
    ratio = np.maximum(np.maximum(fitted.median.predict(codes), fitted.root.predict(codes) ** 3), 0)
    scale = own_scale(asked.features, asked.history_days, asked.question.horizon_days, fitted.floor)
    return np.clip(churn, 1e-4, 1 - 1e-4), ratio * scale * learnt.factor


def hold_to_scikit_learn(examples: Examples) -> None:
    learnt = Learnt.fit(examples)
    foretold = learnt.forecast(examples)
    churn, value = by_scikit_learn(learnt, examples)
    assert np.abs(foretold.churn - churn).max() <= 1e-12
    assert np.allclose(foretold.value, value, rtol=1e-12, atol=1e-12)


def test_on_real_customers_scores_are_those_of_scikit_learn(bundled):
    hold_to_scikit_learn(bundled)


def test_on_real_customers_every_label_is_that_of_scikit_learn(bundled):
    scales = clusters.scales_of(bundled)
    points = scaled(scales, bundled.features)
    for number in (2, 4, 8):
        model = SegmentModel.fit(bundled, number)
        theirs = KMeans(number, init=model.centroids, n_init=1, max_iter=1)
        theirs.fit(points)
        theirs.cluster_centers_ = model.centroids
        assert np.array_equal(model.labels(bundled.features), theirs.predict(points))


@pytest.mark.parametrize("seed", range(3))
def test_on_generated_customers_scores_are_those_of_scikit_learn(seed):
    hold_to_scikit_learn(generated(700, seed))


def test_where_nobody_was_lost_the_rate_is_all_there_is():
    examples = generated(300, 1)
    kept = Examples(
        examples.question, examples.customer_ids, examples.features, np.zeros(300, dtype=bool), examples.value,
        examples.history_days,
    )  # fmt: skip
    hold_to_scikit_learn(kept)
    assert Learnt.fit(kept).forecast(kept).churn == pytest.approx(0.5 / 301)


def test_the_sum_of_what_is_expected_is_right_for_other_customers(bundled):
    """Half of them teach, half are asked; without the factor it would be a third too low."""
    folds = bundled.folds(2, seed=3)
    learnt = Learnt.fit(bundled.at(folds == 0))
    asked = bundled.at(folds == 1)
    ratio = learnt.forecast(asked).value.sum() / asked.value.sum()
    assert learnt.factor > 1.2
    assert 0.8 < ratio < 1.25


# --- the document ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """By the command, from a file."""
    folder = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "RESAMPLES", 4)
        patch.setattr(segmenting, "BOOTSTRAPS", 3)
        patch.setitem(models._TREES, "max_iter", 8)
        path = write(folder / "events", trade(600, 500))
        trainer.main(["train", "--events", str(path), "--horizon", "60", "--output", str(folder / "model.json")])
    return (folder / "model.json").read_bytes()


def test_a_trained_document_is_small_and_says_what_it_was_made_from(trained):
    model = scoring.parse(trained, version=1)
    card = model.card
    assert len(trained) < 500_000
    assert (card["data"]["base_currency"], card["horizon_days"], card["customers"] > 400) == ("JPY", 60, True)
    assert card["training"]["scheme"] == "earlier_cuts"
    assert card["training"]["parameters_of"] == "the measured model"
    assert card["cut"] not in card["training"]["cuts"]
    assert [each["cut"] < card["cut"] for each in card["other_cuts"]] == [True, True]
    assert set(card["reference"]) == {*FEATURES, "churn_probability", "expected_value", "segment"}
    assert sum(each["share"] for each in card["segments"]["profiles"]) == pytest.approx(1)
    assert card["in_force"] is None


def test_the_measured_model_is_the_published_one(trained, quick, tmp_path):
    """What the card says of the model comes out again when the document scores the same customers."""
    model = scoring.parse(trained, version=1)
    with EventFile(lambda _: None) as events:
        events.load(
            write(tmp_path / "events", trade(600, 500)),
            rates_file=None, currency=None, time_zone="UTC", now=instant_of(NOW),
        )  # fmt: skip
        [examples] = events.examples([Question(date.fromisoformat(model.card["cut"]), 60)])
    scores = model.score(FeatureTable(examples.question.as_of, examples.customer_ids, examples.features))
    assert scores.knows.all()
    churn = measures.churn_figures(examples.churned, scores.churn_probability)
    value = measures.value_figures(examples.value, scores.expected_value)
    for name in ("log_loss", "auroc"):
        assert churn[name] == pytest.approx(model.card["churn"]["model"][name]["figure"], abs=1e-12)
    assert value["mae"] == pytest.approx(model.card["value"]["model"]["mae"]["figure"], rel=1e-12)


def test_a_model_beside_itself_is_no_worse_and_renames_nobody(trained, quick, tmp_path, capsys):
    before = tmp_path / "before.json"
    before.write_bytes(trained)
    path = write(tmp_path / "events", trade(600, 500))
    after = tmp_path / "after.json"
    trainer.main(["train", "--events", str(path), "--horizon", "60", "--in-force", str(before), "--output", str(after)])
    card = scoring.parse(after.read_bytes(), version=1).card
    assert card["in_force"]["sha256"] == training.sha256_of(trained)
    assert card["in_force"]["renamed_share"] == 0
    assert card["model_versus"]["in_force"]["log_loss_reduction"]["figure"] == pytest.approx(0, abs=1e-12)
    assert "the model in force" in capsys.readouterr().out


def test_segments_can_be_kept(trained, quick, tmp_path):
    before = structs.replace(scoring.parse(trained, version=1).document, segments=a_document(5, segments=2).segments)
    (tmp_path / "before.json").write_bytes(before.encoded())
    path = write(tmp_path / "events", trade(600, 500))
    asked = ["train", "--events", str(path), "--horizon", "60", "--output", str(tmp_path / "after.json")]
    trainer.main([*asked, "--in-force", str(tmp_path / "before.json"), "--keep-segments"])
    after = scoring.parse((tmp_path / "after.json").read_bytes(), version=1)
    assert after.document.segments == before.segments
    assert after.card["in_force"]["renamed_share"] == 0
    with pytest.raises(SystemExit, match="leave --keep-segments out"):
        trainer.main([*asked, "--keep-segments"])


def test_too_short_a_past_is_learnt_from_everyone_and_says_so(quick, tmp_path):
    path = write(tmp_path / "events", trade(300, 130))
    trainer.main(["train", "--events", str(path), "--horizon", "60", "--output", str(tmp_path / "model.json")])
    card = scoring.parse((tmp_path / "model.json").read_bytes(), version=1).card
    assert card["training"]["scheme"] == "cross_validation"
    assert card["training"]["parameters_of"] == "everyone at the cut"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "--events", "nowhere.json"], "nowhere.json cannot be read"),
        (["train", "--database"], "DATABASE_URL is not set"),
        (["publish", "nowhere.json", "--author", "A"], "nowhere.json cannot be read"),
        (["activate", "1", "--author", "A", "--reason", "B"], "DATABASE_URL is not set"),
        (["list"], "DATABASE_URL is not set"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(monkeypatch, arguments, told):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(SystemExit) as ended:
        trainer.main(arguments)
    assert told in str(ended.value.code)
    assert "\n" not in str(ended.value.code)


@pytest.mark.parametrize(
    "arguments",
    [["train"], ["activate", "0", "--author", "A", "--reason", "B"], ["activate", "1", "--author", "A"],
     ["rollback", "--author", "A", "--reason", " "], ["show", "x"], ["publish", "f", "--author", "A\x1b[0m"]],
)  # fmt: skip
def test_what_is_asked_wrongly_is_refused_by_name(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        trainer.main(arguments)
    assert "segment-trainer" in capsys.readouterr().err


# --- the rules for publishing ---------------------------------------------------------------------------------------


def interval(figure: float, low: float, high: float) -> dict[str, float]:
    return {"figure": figure, "low": low, "high": high}


def a_card(**beside: Any) -> dict[str, Any]:
    """Of a good model."""
    better = {key: interval(0.1, 0.05, 0.15) for key in ("log_loss_reduction", "mae_reduction")}
    card: dict[str, Any] = {
        "horizon_days": 90,
        "data": {"base_currency": "CNY"},
        "model_versus": {"naive": better, "in_force": copy.deepcopy(better)},
        "churn": {
            "model": {"calibration_error": interval(0.02, 0.01, 0.03)},
            "naive": {"calibration_error": interval(0.03, 0.01, 0.05)},
        },
        "value": {"model": {"total_ratio": interval(0.95, 0.9, 1.0)}},
        "segments": {"jaccard_lowest": 0.9},
        "in_force": {
            "sha256": "abc", "comparable": True, "renamed_share": 0.1, "horizon_days": 90, "base_currency": "CNY",
            **beside,
        },
    }  # fmt: skip
    return copy.deepcopy(card)


def changed(card: dict[str, Any], value: Any, *where: Any) -> dict[str, Any]:
    inside = card
    for step in where[:-1]:
        inside = inside[step]
    inside[where[-1]] = value
    return card


def rules(card: dict[str, Any], in_force: str | None = "abc") -> list[str]:
    return [each.rule for each in judging.refusals(card, in_force)]


def test_a_good_model_may_be_published():
    assert rules(a_card()) == []
    assert rules(changed(a_card(), None, "in_force"), None) == []


VERSUS = ("model_versus", "in_force")


@pytest.mark.parametrize(
    ("card", "expected", "figure"),
    [
        (changed(a_card(), interval(-0.02, -0.03, -0.01), *VERSUS, "log_loss_reduction"), "worse_churn", "+2.0%"),
        (changed(a_card(), interval(-0.06, -0.20, 0.08), *VERSUS, "log_loss_reduction"), "worse_churn", "+6.0%"),
        (changed(a_card(), interval(-0.03, -0.04, -0.02), *VERSUS, "mae_reduction"), "worse_value", "+3.0%"),
        (changed(a_card(), interval(0.12, 0.1, 0.2), "churn", "model", "calibration_error"), "miscalibrated", "0.120"),
        (changed(a_card(), interval(2.6, 2.5, 3.0), "value", "model", "total_ratio"), "wrong_total", "2.60"),
        (changed(a_card(), interval(0.4, 0.3, 0.5), "value", "model", "total_ratio"), "wrong_total", "0.40"),
        (changed(a_card(), 0.75, "segments", "jaccard_lowest"), "unstable", "0.75"),
        (a_card(renamed_share=0.4), "renames", "40%"),
        (a_card(sha256="other"), "not_compared", "train it again"),
        (a_card(comparable=False, horizon_days=30), "not_compared", "30 days"),
        (changed(a_card(), None, "in_force"), "not_compared", "train it again"),
        ({}, "incomplete", "model_versus"),
        (changed(a_card(), "much", "churn", "model", "calibration_error"), "incomplete", ""),
    ],
)  # fmt: skip
def test_each_rule_names_its_figure(card, expected, figure):
    [refusal] = judging.refusals(card, "abc")
    assert refusal.rule == expected
    assert figure in refusal.sentence


def test_within_the_interval_a_model_is_not_worse():
    assert rules(changed(a_card(), interval(-0.01, -0.03, 0.01), *VERSUS, "log_loss_reduction")) == []


def test_without_a_model_in_force_the_naive_rule_has_to_be_beaten():
    worse = changed(a_card(), interval(-0.2, -0.3, -0.1), "model_versus", "naive", "mae_reduction")
    assert rules(worse) == []
    assert rules(worse, None) == ["worse_value"]


def test_a_season_that_nobody_knew_is_excused_up_to_a_point():
    card = changed(a_card(), interval(0.14, 0.1, 0.2), "churn", "naive", "calibration_error")
    assert rules(changed(card, interval(0.13, 0.1, 0.2), "churn", "model", "calibration_error")) == []
    assert rules(changed(card, interval(0.151, 0.1, 0.2), "churn", "model", "calibration_error")) == ["miscalibrated"]


def test_every_reason_is_told():
    card = changed(a_card(renamed_share=0.9), 0.2, "segments", "jaccard_lowest")
    assert rules(card) == ["unstable", "renames"]


# --- drift ----------------------------------------------------------------------------------------------------------


def a_model() -> Model:
    return Model(a_document(3), version=1)


def moved(table: FeatureTable, factor: float, name: str) -> FeatureTable:
    values = table.values.copy()
    values[:, COLUMNS[name]] *= factor
    return FeatureTable(table.as_of, table.customer_ids, values)


def drifts(model: Model, then: FeatureTable, *now: FeatureTable) -> dict[str, drift.Drift]:
    reference = drift.Reference.of(model, then)
    tally = drift.Tally(model, reference.edges)
    for table in now:
        tally.count(table)
    return {each.name: each for each in drift.compared(reference, tally)}


def test_the_same_customers_have_not_drifted():
    table = some_features(500)
    found = drifts(a_model(), table, table)
    assert set(found) == {*FEATURES, "churn_probability", "expected_value", "segment"}
    assert {(each.psi, each.verdict) for each in found.values()} == {(0.0, "stable")}


def test_what_moved_is_named_and_the_rest_is_not():
    table = some_features(2_000)
    found = drifts(a_model(), table, moved(table, 4.0, "recency_days"))
    assert found["recency_days"].verdict == "much"
    assert found["gap_last_days"].psi == 0
    assert next(each for each in found if each in FEATURES) == "recency_days"


def test_the_index_is_the_textbooks():
    """Nine tenths then, all of it now: by hand."""
    table = some_features(1_000)
    table.values[:, COLUMNS["order_days"]] = 1
    table.values[:, COLUMNS["orders"]] = np.arange(1_000) % 2
    now = moved(table, 1.0, "orders")
    now.values[:, COLUMNS["orders"]] = (np.arange(1_000) % 4 == 0).astype(float)
    expected = (0.25 - 0.5) * np.log(0.25 / 0.5) + (0.75 - 0.5) * np.log(0.75 / 0.5)
    assert drifts(a_model(), table, now)["orders"].psi == pytest.approx(expected)


@pytest.mark.parametrize(("psi", "expected"), [(0.0, "stable"), (0.099, "stable"), (0.1, "some"), (0.25, "much")])
def test_the_thresholds_are_the_usual_ones(psi, expected):
    assert drift.verdict(psi) == expected


def test_parts_are_counted_as_one():
    table = some_features(600)
    rows = np.array_split(np.arange(600), 7)
    parts = [FeatureTable(table.as_of, [table.customer_ids[row] for row in some], table.values[some]) for some in rows]
    assert {each.psi for each in drifts(a_model(), table, *parts).values()} == {0.0}


@pytest.mark.parametrize("reference", [None, {}, {"orders": 3}, "x"])
def test_a_card_without_a_reference_cannot_be_watched(reference):
    model = Model(a_document(3, card={"reference": reference}), version=1)
    with pytest.raises(NotPossible, match="train the model anew"):
        drift.Reference.read(model)


def test_a_reference_is_read_as_it_was_written():
    model = a_model()
    reference = drift.Reference.of(model, some_features(300))
    written = Model(structs.replace(model.document, card={"reference": reference.plain()}), version=2)
    assert drift.Reference.read(written) == reference
