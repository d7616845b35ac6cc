"""A model scores as its document says: to the last bit the same in any batch, and no document does harm."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.support.model_documents import FIRST_DAY, a_document, some_features

from segmentation import scoring
from segmentation.drivers import GROUPS
from segmentation.errors import ModelInvalid
from segmentation.facets import BOUND, FACETS, Scale
from segmentation.features import COLUMNS, FEATURES, FeatureTable
from segmentation.forests import Bins, Forest, Forests
from segmentation.scoring import Model, Scores, SegmentPart, SegmentsPart


def parsed(**changes: Any) -> Model:
    return scoring.parse(a_document(**changes).encoded(), version=3)


def by_hand(forest: Forest, edges: list[list[float]], row: np.ndarray) -> float:
    """Down each tree, node by node."""
    total = forest.start
    for tree in forest.trees:
        node = 0
        while tree.feature[node] >= 0:
            column = tree.feature[node]
            code = sum(edge <= row[column] for edge in edges[column])
            node = tree.left[node] if code <= tree.bin[node] else tree.right[node]
        total += tree.value[node]
    return total


def columns_of(document: scoring.Document, values: np.ndarray) -> np.ndarray:
    """The features, and what BG/NBD says of them, by hand."""
    found = document.silence
    if found is None:
        return values
    days = {name: float(values[COLUMNS[name]]) for name in ("recency_days", "tenure_days", "order_days")}
    repeats, age = max(days["order_days"] - 1, 0), days["tenure_days"] / 7
    span, weeks = max(days["tenure_days"] - days["recency_days"], 0) / 7, document.horizon_days / 7
    alive = 1.0
    if repeats > 0:
        longer = ((found.alpha + age) / (found.alpha + span)) ** (found.r + repeats)
        alive = 1 / (1 + found.a / (found.b + max(repeats, 1) - 1) * longer)
    silent = ((found.alpha + age) / (found.alpha + age + weeks)) ** (found.r + repeats)
    return np.append(values, [1 - alive * (1 - silent), alive])


def same(one: Scores, other: Scores) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Scores.__slots__)


# --- what it says ---------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000))
def test_every_tree_is_walked_as_node_by_node(seed):
    document = a_document(seed, trees=7)
    table = some_features(40, seed)
    forests = (document.churn.trees, document.value.median, document.value.root)
    bins = Bins(tuple(np.array(each, dtype=float) for each in document.bins))
    columns = scoring.widened(table.values, document.silence, document.horizon_days)
    found = Forests(bins, forests).sums(bins.codes(columns))
    for forest, sums in zip(forests, found, strict=True):
        expected = [by_hand(forest, document.bins, row) for row in columns]
        assert np.allclose(sums, expected, rtol=0, atol=1e-12)


@given(seed=st.integers(0, 10_000), customers=st.integers(1, 700), pieces=st.integers(1, 5))
def test_scores_are_the_same_bits_in_any_batch_and_order(seed, customers, pieces):
    model, table = parsed(seed=seed), some_features(customers, seed)
    whole = model.score(table)
    order = np.random.default_rng(seed).permutation(customers)
    for rows in np.array_split(order, min(pieces, customers)):
        ids = [table.customer_ids[row] for row in rows]
        part = model.score(FeatureTable(table.as_of, ids, table.values[rows]))
        expected = Scores(*(getattr(whole, name)[rows] for name in Scores.__slots__))
        assert same(part, expected)


@given(seed=st.integers(0, 10_000))
def test_what_bg_nbd_says_is_what_it_says_by_hand(seed):
    document, table = a_document(2 * seed + 1), some_features(20, seed)
    found = scoring.widened(table.values, document.silence, document.horizon_days)
    expected = np.array([columns_of(document, row) for row in table.values])
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("seed", [4, 5])
def test_what_it_says_is_the_formula_of_the_module(seed):
    document, table = a_document(seed), some_features(30)
    scores = parsed(seed=seed).score(table)
    row = 13
    values = columns_of(document, table.values[row])
    logs = np.sign(values) * np.log1p(np.abs(values))
    linear, churn, value = document.churn.linear, document.churn, document.value
    line = linear.intercept + sum((logs - linear.centre) / linear.spread * linear.coefficients)
    log_odds = churn.slope * (line + by_hand(churn.trees, document.bins, values)) / 2 + churn.intercept
    assert scores.churn_probability[row] == pytest.approx(1 / (1 + math.exp(-log_odds)), abs=1e-12)
    ratio = max(by_hand(value.median, document.bins, values), by_hand(value.root, document.bins, values) ** 3, 0)
    scale = max(values[COLUMNS["net_365d"]] * 90 / 365, 0) + value.floor
    assert scores.expected_value[row] == pytest.approx(ratio * scale * value.factor, rel=1e-12)


def test_a_short_history_is_scaled_to_the_horizon():
    """Sixty days after the first event, what came in a year came in sixty days."""
    tall = Forest(start=1.0, trees=[])
    document = a_document()
    value = structs.replace(document.value, floor=1.0, factor=1.0, median=tall, root=tall)
    model = scoring.parse(structs.replace(document, value=value).encoded(), version=1)
    table = some_features(3, as_of=FIRST_DAY + timedelta(days=59))
    table.values[2, COLUMNS["net_365d"]] = 600.0
    assert model.score(table).expected_value[2] == 600.0 * 90 / 60 + 1
    on_the_first_day = FeatureTable(FIRST_DAY - timedelta(days=3), table.customer_ids, table.values)
    assert model.score(on_the_first_day).expected_value[2] == 600.0 * 90 + 1


def test_of_who_has_not_ordered_nothing_is_said():
    scores = parsed().score(some_features(21))
    assert scores.knows.tolist() == [number % 10 != 0 for number in range(21)]
    silent = ~scores.knows
    assert not scores.churn_probability[silent].any()
    assert not scores.expected_value[silent].any()
    assert not scores.segment[silent].any()
    assert not scores.confidence[silent].any()
    assert (scores.churn_probability[scores.knows] > 0).all()


def test_nobody_is_scored_without_ado():
    scores = parsed().score(some_features(0))
    assert all(len(getattr(scores, name)) == 0 for name in Scores.__slots__)


def two_segments(where: float) -> SegmentsPart:
    names = {"en": "one", "zh": "一"}
    return SegmentsPart(
        facets=[Scale("punctuality", 1.0, 0.5, 1.0)],
        segments=[SegmentPart("near", names, [0.0]), SegmentPart("far", names, [where])],
    )


def test_confidence_is_1_at_the_centre_and_0_on_the_border():
    model = parsed(segments=2, seed=1)
    model = scoring.parse(structs.replace(a_document(), segments=two_segments(0.4)).encoded(), version=1)
    table = some_features(5)
    table.values[:, COLUMNS["order_days"]] = 1
    table.values[:, COLUMNS["knows_on_time"]] = 1
    table.values[:, COLUMNS["on_time_rate_365d"]] = [0.5, 0.6, 0.7, 0.8, 0.9]
    scores = model.score(table)
    assert scores.confidence == pytest.approx([1, 1 - 0.1 / 0.3, 0, 1 - 0.1 / 0.3, 1], abs=1e-12)
    assert scores.segment.tolist() in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])


def test_one_segment_is_certain():
    model = parsed(segments=1)
    assert set(model.score(some_features(9)).confidence[1:].tolist()) == {1.0}


def test_a_model_says_what_it_is():
    model = parsed()
    assert (model.version, model.horizon_days, model.base_currency) == (3, 90, "CNY")
    first = model.segments[0]
    assert (first.code, first.name("zh")) == ("kind-0", "第 0 类")
    assert model.card == {"cut": "2026-01-01"}


# --- drivers --------------------------------------------------------------------------------------------------------


def test_every_feature_is_in_one_group():
    grouped = [name for group in GROUPS.values() for name in group.features]
    assert sorted(grouped) == sorted(FEATURES)


@given(seed=st.integers(0, 10_000), row=st.integers(0, 19))
def test_a_driver_is_what_being_typical_would_change(seed, row):
    document = a_document(seed)
    model, table = parsed(seed=seed), some_features(20, seed)
    table.values[:, COLUMNS["order_days"]] = 1

    def log_odds(values: np.ndarray) -> float:
        churn, values = document.churn, columns_of(document, values)
        logs = np.sign(values) * np.log1p(np.abs(values))
        linear = churn.linear.intercept + sum(
            (logs - churn.linear.centre) / churn.linear.spread * churn.linear.coefficients
        )
        return float(churn.slope * (linear + by_hand(churn.trees, document.bins, values)) / 2 + churn.intercept)

    drivers = model.drivers(table, row)
    assert [abs(each.effect) for each in drivers] == sorted((abs(each.effect) for each in drivers), reverse=True)
    own = log_odds(table.values[row])
    effects = {each.code: each.effect for each in drivers}
    for code, group in GROUPS.items():
        other = table.values[row].copy()
        for name in group.features:
            other[COLUMNS[name]] = document.typical[COLUMNS[name]]
        effect = own - log_odds(other)
        assert effects.get(code, 0.0) == pytest.approx(effect, abs=1e-9 if code in effects else 0.0101)


@pytest.mark.parametrize("known", [0.0, 1.0])
def test_drivers_speak_both_languages_with_the_customers_own_numbers(known):
    document = a_document()
    columns = len(document.bins)
    sharp = structs.replace(
        document.churn,
        linear=structs.replace(document.churn.linear, coefficients=[1.0] * columns, centre=[0.0] * columns),
    )
    model = scoring.parse(
        structs.replace(document, churn=sharp, typical=[5_000.0] * len(FEATURES)).encoded(), version=1
    )
    table = some_features(1)
    for name in ("knows_gap", "knows_gap_cv", "knows_season", "knows_on_time", "knows_margin"):
        table.values[0, COLUMNS[name]] = known
    table.values[0, COLUMNS["recency_days"]], table.values[0, COLUMNS["net_365d"]] = 132, 1_234.5
    drivers = {each.code: each for each in model.drivers(table, 0)}
    assert set(drivers) == set(GROUPS)
    assert drivers["silence"].text("en").startswith("The last order was 132 days ago")
    assert drivers["silence"].text("zh").startswith("上次下单距今 132 天")
    assert "1,234.50 CNY" in drivers["revenue"].text("en")
    assert ("not known" in drivers["margin"].text("en")) == (known == 0)
    assert all(each.text("zh") != each.text("en") for each in drivers.values())


# --- reading --------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000))
def test_what_was_written_is_read_again(seed):
    document = a_document(seed)
    again = scoring.parse(document.encoded().decode(), version=1)
    assert again.document == document
    assert again.document.encoded() == document.encoded()


def plain() -> Any:
    return json.loads(a_document().encoded())


TREES = ["value", "root", "trees"]


def a_bad_tree(*arrays: Any) -> dict[str, Any]:
    return dict(zip(("feature", "bin", "left", "right", "value"), arrays, strict=True))


def a_split(feature: int, last_left: int) -> dict[str, Any]:
    return a_bad_tree([feature, -1, -1], [last_left, 0, 0], [1, 0, 0], [2, 0, 0], [0.0] * 3)


def a_facet(name: str, spread: float) -> dict[str, Any]:
    return {"facet": name, "unit": 1.0, "centre": 0.0, "spread": spread}


HOSTILE: list[tuple[str, list[Any], Any, str]] = [
    ("another format", ["format"], 2, "format is 2"),
    ("features computed otherwise", ["features_version"], 99, "train it anew"),
    ("features in another order", ["features", 0], "orders", "train it anew"),
    ("no horizon", ["horizon_days"], 0, "horizon_days is 0"),
    ("an endless horizon", ["horizon_days"], 10**9, "horizon_days"),
    ("no currency", ["base_currency"], "XXZ", "base_currency is 'XXZ'"),
    ("no day", ["first_day"], "yesterday", "first_day"),
    ("a typical too few", ["typical"], [1.0], "typical has 1 numbers"),
    ("a number beyond all", ["typical", 0], 1e300, "typical[0]"),
    ("text for a number", ["churn", "slope"], "1", "churn.slope"),
    ("true for a number", ["churn", "slope"], True, "churn.slope"),
    ("null for a number", ["value", "factor"], None, "value.factor"),
    ("a negative factor", ["value", "factor"], -1.0, "above 0"),
    ("a divisor of nothing", ["churn", "linear", "spread", 3], 0.0, "spread"),
    ("a silence of nothing", ["silence", "b"], 0.0, "silence is"),
    ("a silence beyond all", ["silence", "r"], 1e9, "silence is"),
    ("no silence where columns rest on it", ["silence"], None, "are expected"),
    ("edges that go down", ["bins", 0], [2.0, 1.0], "each edge has to be above"),
    ("edges without end", ["bins", 0], [float(each) for each in range(64)], "at most 63"),
    ("bins of too few features", ["bins"], [[1.0]], "bins has 1 columns"),
    ("trees without end", TREES, [a_bad_tree([-1], [0], [0], [0], [0.0])] * 401, "401 trees"),
    ("a tree without nodes", TREES, [a_bad_tree([], [], [], [], [])], "0 nodes"),
    ("a circle", TREES, [a_bad_tree([0, 0, -1], [0, 0, 0], [1, 0, 0], [2, 2, 0], [0.0] * 3)], "come after it"),
    ("two parents", TREES, [a_bad_tree([0, -1, -1], [0, 0, 0], [1, 0, 0], [1, 0, 0], [0.0] * 3)], "exactly one parent"),
    ("a tree of ragged arrays", TREES, [a_bad_tree([-1], [], [0], [0], [0.0])], "not equally long"),
    ("an unknown feature", TREES, [a_split(400, 0)], "feature is 400"),
    ("a bin that is not there", TREES, [a_split(0, 63)], "bin is 63"),
    ("another bound", ["segments", "bound"], BOUND + 1, "segments.bound"),
    ("an unknown facet", ["segments", "facets"], [a_facet("shoe_size", 1.0)], "shoe_size"),
    ("a facet twice", ["segments", "facets"], [a_facet("recency", 1.0)] * 2, "at most once"),
    ("a facet without spread", ["segments", "facets"], [a_facet(next(iter(FACETS)), 0.0)], "spread"),
    ("no segment", ["segments", "segments"], [], "0 segments"),
    ("two of one code", ["segments", "segments", 0, "code"], "kind-1", "each needs its own"),
    ("a code that is none", ["segments", "segments", 0, "code"], "Kind 1", "code"),
    ("a name missing", ["segments", "segments", 0, "names"], {"en": "kind"}, "names in en, zh"),
    ("a centroid too long", ["segments", "segments", 0, "centroid"], [0.0] * 20, "centroid"),
    ("a key that nobody knows", ["code"], "import os", "code"),
    ("a character that cannot be kept", ["card"], {"note": "\0"}, "u0000"),
]  # fmt: skip


@pytest.mark.parametrize(("where", "value", "told"), [each[1:] for each in HOSTILE], ids=[each[0] for each in HOSTILE])
def test_a_document_that_is_not_right_is_refused_and_the_place_is_named(where, value, told):
    document = plain()
    inside = document
    for step in where[:-1]:
        inside = inside[step]
    inside[where[-1]] = value
    with pytest.raises(ModelInvalid) as refused:
        scoring.parse(json.dumps(document), version=1)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "written", [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 200_000, b'{"card":' + b'{"a":' * 100_000, b"NaN"]
)
def test_what_is_no_document_is_refused(written):
    with pytest.raises(ModelInvalid):
        scoring.parse(written, version=1)


def test_a_document_without_end_is_not_even_read():
    with pytest.raises(ModelInvalid, match="at most 2,000,000"):
        scoring.parse(b" " * (scoring.LARGEST_DOCUMENT + 1), version=1)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        found += _places(each, (*path, key))
    return found


PLACES = _places(plain())
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5), st.lists(st.floats(-10, 10), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@given(changed=st.lists(st.tuples(st.sampled_from(PLACES), ODD), min_size=1, max_size=3))
def test_a_document_changed_by_chance_is_refused_or_scores_finite_numbers(changed):
    document = plain()
    for path, value in changed:
        inside = document
        try:
            for step in path[:-1]:
                inside = inside[step]
            inside[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue
    try:
        model = scoring.parse(msgspec.json.encode(document), version=1)
    except ModelInvalid:
        return
    table = some_features(12)
    scores = model.score(table)
    for name in ("churn_probability", "expected_value", "confidence"):
        assert np.isfinite(getattr(scores, name)).all()
    assert ((scores.churn_probability >= 0) & (scores.churn_probability <= 1)).all()
    assert ((scores.segment >= 0) & (scores.segment < len(model.segments))).all()
    assert all(math.isfinite(each.effect) for each in model.drivers(table, 3))


def test_extreme_customers_are_scored_in_finite_numbers():
    table = some_features(8)
    table.values[1:] = [
        [0.0] * len(FEATURES),
        *([each] * len(FEATURES) for each in (1e15, 1e-300, 1.0, 1e9, 5e14, 3.0)),
    ]
    table.values[:, COLUMNS["order_days"]] = 1
    scores = parsed().score(table)
    assert np.isfinite(scores.expected_value).all()
