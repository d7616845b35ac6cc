"""Behaviour segments: they find groups that are known to be there, and a model survives being written down."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from segment_trainer import clusters, plots, report, segmenting
from segment_trainer.clusters import SegmentModel
from segment_trainer.examples import Examples, Question
from segment_trainer.failures import NotPossible
from segmentation.facets import scaled
from segmentation.features import COLUMNS, FEATURES
from segmentation.fields import CustomerId

CUT = date(2025, 6, 1)
HORIZON = 60
# recency in days, orders, order value, returned share
GROUPS = ((5, 40, 200, 0.01), (150, 2, 20, 0.0), (60, 8, 2_000, 0.0), (40, 9, 60, 0.6))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenting, "BOOTSTRAPS", 12)


def customers(
    sizes: tuple[int, ...] = (120, 120, 120, 120), *, spread: float = 0.2, seed: int = 5, days_before: int = 0
) -> Examples:
    """So many of each group; the n-th customer is of the same group whatever the seed."""
    chance = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    recency, orders, size, returned = (np.array([one[each] for one in GROUPS], dtype=float)[group] for each in range(4))
    features = np.zeros((len(group), len(FEATURES)))

    def put(name: str, values: np.ndarray) -> None:
        features[:, COLUMNS[name]] = values

    def about(values: np.ndarray) -> np.ndarray:
        return values * chance.lognormal(0, spread, len(values)) if spread else values

    put("recency_days", about(recency))
    put("orders_365d", np.round(about(orders)) if spread else orders)
    put("orders", features[:, COLUMNS["orders_365d"]])
    put("order_value_mean", about(size))
    put("net_365d", features[:, COLUMNS["orders_365d"]] * features[:, COLUMNS["order_value_mean"]])
    put("returned_share_365d", np.minimum(about(returned), 1))
    churned = chance.random(len(group)) < np.array([0.05, 0.9, 0.4, 0.5])[group]
    value = np.where(churned, 0, features[:, COLUMNS["net_365d"]] / 6)
    question = Question(CUT - timedelta(days=days_before), days_before or HORIZON)
    ids = [CustomerId(f"C-{number:05}") for number in range(len(group))]
    return Examples(question, ids, features, churned, value, np.full(len(group), 400.0))


def test_groups_that_are_there_are_found_named_and_ordered_by_value():
    examples = customers()
    found = segmenting.segment(examples, [customers(seed=6, days_before=30), customers(seed=7, days_before=91)])
    assert found.chosen is not None
    assert len(found.model) == 4
    assert min(found.chosen.jaccard) > 0.95
    assert segmenting.verdict(found) == "highly_stable"
    for group in range(4):
        labels = found.labels[group * 120 : group * 120 + 120]
        assert (labels == labels[0]).mean() > 0.95
    values = [examples.column("net_365d")[found.labels == row].mean() for row in range(4)]
    assert values == sorted(values, reverse=True)
    by_group = [found.model.segments[found.labels[group * 120]] for group in range(4)]
    assert by_group[0].code == "active-frequent"
    assert by_group[0].names == {"en": "active, frequent", "zh": "活跃、高频"}
    assert by_group[1].code.startswith("silent")
    assert "large-orders" in by_group[2].code
    assert "many-returns" in by_group[3].code


def test_labels_stay_over_refits_and_the_moves_are_counted():
    examples, month = customers(), customers(seed=6, days_before=30)
    # ten of the first group were like the last a month ago, and one is not known any more
    month.features[:10] = month.features[-10:]
    month = month.at(np.arange(1, len(month)))
    found = segmenting.segment(examples, [month, customers(seed=7, days_before=91)])
    assert found.compared == 479
    assert found.moved == pytest.approx(9 / 479, abs=0.01)
    assert [each.question.horizon_days for each in found.refits] == [30, 91]
    for refit in found.refits:
        assert refit.kept_by_matching > 0.95


def test_what_segments_foretell_is_held_against_tiers_and_rfm():
    examples = customers()
    told = segmenting.plain(segmenting.segment(examples, [customers(seed=7, days_before=91)]), examples)
    assert set(told["explains"]) == {"segment", "tier", "tier_and_segment", "rfm"}
    assert 0.7 < told["explains"]["segment"]["churn_auroc"] < 1
    assert told["explains"]["segment"]["churn_explained"] > 0.2
    assert sum(each["customers"] for each in told["profiles"]) == len(examples)
    assert sum(each["value_share"] for each in told["profiles"]) == pytest.approx(1)
    for each in told["profiles"]:
        assert each["churn_rate"] == pytest.approx(each["churn_lift"] * examples.churned.mean())
    json.dumps(told, allow_nan=False)


def test_customers_who_are_alike_are_one_segment():
    alike = customers((200,), spread=0)
    found = segmenting.segment(alike, [])
    told = segmenting.plain(found, alike)
    assert (told["number"], told["verdict"], told["candidates"]) == (1, "one_segment", [])
    assert told["profiles"][0]["names"] == {"en": "all customers", "zh": "全部客户"}
    assert told["explains"]["segment"]["churn_auroc"] == 0.5
    assert set(found.labels.tolist()) == {0}
    again = SegmentModel.of(json.loads(json.dumps(found.model.plain())))
    assert again.labels(alike.features).tolist() == found.labels.tolist()


def test_few_customers_without_structure_are_one_segment():
    examples = customers((14,))
    told = segmenting.plain(segmenting.segment(examples, []), examples)
    assert told["verdict"] == "one_segment"
    assert {each["verdict"] for each in told["candidates"]} <= {"too_small", "unstable"}


def test_without_returns_there_is_no_facet_of_them():
    examples = customers((100, 100, 100))
    examples.features[:, COLUMNS["returned_share_365d"]] = 0
    model = SegmentModel.fit(examples, 3)
    assert [each.facet for each in model.scales] == ["recency", "frequency", "value", "order_size"]


def test_what_is_unknown_of_a_customer_counts_as_the_median():
    examples = customers()
    rows = np.arange(len(examples))
    examples.features[:, COLUMNS["knows_on_time"]] = rows % 4 > 0
    examples.features[:, COLUMNS["on_time_rate_365d"]] = np.where(rows % 4 > 0, 0.5 + (rows % 7) / 20, 0)
    scales = clusters.scales_of(examples)
    column = [each.facet for each in scales].index("punctuality")
    points = scaled(scales, examples.features)
    assert (points[rows % 4 == 0, column] == 0).all()
    assert np.ptp(points[:, column]) > 1


@pytest.mark.parametrize("number", [2, 3, 4, 5, 8])
def test_a_model_that_was_written_down_scores_as_scikit_learn_predicts(number):
    examples, others = customers(), customers(seed=9, spread=1.5)
    model = SegmentModel.fit(examples, number)
    again = SegmentModel.of(json.loads(json.dumps(model.plain(), allow_nan=False)))
    assert again.plain() == model.plain()
    points = scaled(model.scales, examples.features)
    fitted = clusters.kmeans(points, number)
    place = {tuple(centroid): row for row, centroid in enumerate(model.centroids.tolist())}
    rows = np.array([place[tuple(centroid)] for centroid in fitted.cluster_centers_.tolist()])
    for asked in (examples, others):
        predicted = rows[fitted.predict(scaled(model.scales, asked.features))]
        assert again.labels(asked.features).tolist() == predicted.tolist()
    assert len(set(model.labels(examples.features).tolist())) == number
    assert len({each.code for each in model.segments}) == number


@pytest.mark.parametrize("key", ["format", "features_version", "bound"])
def test_a_model_of_another_format_is_refused(key):
    plain = SegmentModel.fit(customers(), 2).plain()
    with pytest.raises(NotPossible, match=f"{key} 99;"):
        SegmentModel.of({**plain, key: 99})


def test_a_model_with_an_unknown_facet_is_refused():
    plain = SegmentModel.fit(customers(), 2).plain()
    plain["facets"][0]["facet"] = "weather"
    with pytest.raises(NotPossible, match="unknown facet 'weather'"):
        SegmentModel.of(plain)


def test_a_refit_takes_over_codes_and_names_by_its_customers():
    examples = customers()
    earlier = SegmentModel.fit(customers(seed=11), 4)
    plain = earlier.plain()
    for number, segment in enumerate(plain["segments"]):
        segment["code"], segment["names"] = f"carried-{number}", {"en": f"carried {number}", "zh": f"沿用 {number}"}
    previous = SegmentModel.of(plain)
    refit = SegmentModel.fit(examples, 4).renamed_like(previous, examples.features)
    before, after = previous.labels(examples.features), refit.labels(examples.features)
    same = [previous.segments[old].code == refit.segments[new].code for old, new in zip(before, after, strict=True)]
    assert np.mean(same) > 0.95
    more = SegmentModel.fit(examples, 5).renamed_like(previous, examples.features)
    codes = [each.code for each in more.segments]
    assert len(set(codes)) == 5
    assert sum(code.startswith("carried-") for code in codes) == 4


def test_the_pairs_that_keep_the_most_customers_are_matched():
    before = np.array([0, 0, 0, 1, 1, 1, 2])
    after = np.array([1, 1, 0, 0, 0, 0, 2])
    assert clusters.matched(before, after, 3, 4) == {1: 0, 0: 1, 2: 2}


def test_a_cluster_of_chance_is_less_stable_than_one_that_is_there():
    chance = np.random.default_rng(2)
    round_cloud = chance.normal(size=(400, 3))
    apart = round_cloud * 0.2 + np.repeat(np.eye(3) * 4, [134, 133, 133], axis=0)
    found = [
        segmenting.stability(points, clusters.kmeans(points, number).labels_, number).min()
        for points, number in ((apart, 3), (round_cloud, 7))
    ]
    assert found[0] > 0.98
    assert found[1] < segmenting.STABLE


def test_a_person_reads_how_many_there_are_and_why():
    examples = customers()
    earlier = [customers(seed=6, days_before=30), customers(seed=7, days_before=91)]
    told = segmenting.plain(segmenting.segment(examples, earlier), examples)
    said = report.segment_verdict(told)
    assert said.startswith("4 segments, highly stable")
    assert "of 480 customers moved" in said
    assert "Made from 2025-03-02 instead" in said
    assert ["active, frequent", "活跃、高频", "120", "25%"] in [row[:4] for row in report.profiles_table(told)]
    assert [row[-1] for row in report.candidates_table(told)].count("chosen") == 1
    assert {len(row) for row in report.explains_table(told)} == {6}
    alike = customers((60,), spread=0)
    assert report.segment_verdict(segmenting.plain(segmenting.segment(alike, []), alike)).startswith("There is one")


def test_the_plot_of_the_profiles_is_the_same_for_the_same_figures(tmp_path: Path):
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    for path in (first, second):
        plots.profiles(path, ["silent", "active"], ["recency", "value"], np.array([[-1.5, -0.2], [0.7, 1.2]]))
    assert first.read_text() == second.read_text()
    assert "-1.5" in first.read_text()
