"""A model, and what it says of customers: the probability of churn, the value expected, the behaviour segment.

Laws: a model is read from JSON as a whole or refused, with the place named; it is numbers and names, nothing in it is
ever run. A score is a pure function of (the customer's features, their day, the model): to the last bit the same in
any batch and any order. What was evaluated is what scores here: the trainer judges documents by this module, and the
tests hold it to scikit-learn.

What is looked at are the features, and where a document has a `silence` two probabilities of BG/NBD beside them. Churn:
the mean log-odds of a logistic regression over logarithms of these and of trees over their bins, then a straight line
of that (Platt). Value: the trees foretell a ratio to a scale of the customer's own, which is its past
revenue and a floor; the larger of the median of the ratio and of the cube of the mean of its cube root counts, times
one factor that makes the sum over all customers right. Segment: the nearest centroid. Confidence: 1 - the distance to
the nearest centroid / that to the second nearest, so 0 on the border between two segments and 1 at the centre of one.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from segmentation.drivers import GROUPS, Driver, driver
from segmentation.errors import ModelInvalid
from segmentation.facets import BOUND, FACETS, Scale, scaled, squared_distances
from segmentation.features import COLUMNS, FEATURES, FEATURES_VERSION, YEAR, FeatureTable, Numbers
from segmentation.forests import MOST_BINS, MOST_TREES, Bins, Forest, Forests
from segmentation.money import MINOR_UNITS
from segmentation.services import Named
from segmentation.silences import NUMBER, Silence
from segmentation.toml_tables import LANGUAGES

FORMAT: Final = 1
"""Of a document; grows when a key changes its meaning."""
LARGEST_DOCUMENT: Final = 2_000_000
"""Bytes."""
MOST_SEGMENTS: Final = 50
SMALLEST_PROBABILITY: Final = 1e-4
"""No probability is nearer to 0 or 1."""
_LONGEST_HORIZON: Final = 3_650
_LARGEST: Final = 1e15
"""No number of a document is larger: no sum of them overflows."""
_STEEPEST: Final = 500.0
_TELLING: Final = 0.01
"""Effects below this, in log-odds, are no reason: less than a quarter of a per cent of probability."""

_SMALLEST_DIVISOR: Final = 1e-12
_LEAST_SHAPE: Final = 1e-6

_Name = Annotated[str, Meta(min_length=1, max_length=200)]
_Code = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,199}\Z")]


class Linear(Struct, frozen=True, forbid_unknown_fields=True):
    """A logistic regression over logarithms of the features, centred and divided."""

    centre: list[float]
    spread: list[float]
    coefficients: list[float]
    intercept: float

    def log_odds(self, logs: Numbers) -> Numbers:
        """Of features as rows; added up one after the other, since a product of matrices depends on the batch."""
        found = np.full(logs.shape[1], self.intercept)
        for row, centre, spread, coefficient in zip(logs, self.centre, self.spread, self.coefficients, strict=True):
            found += (row - centre) / spread * coefficient
        return found


class Churn(Struct, frozen=True, forbid_unknown_fields=True):
    """The probability of no order within the horizon."""

    linear: Linear
    trees: Forest
    slope: float
    intercept: float


class Value(Struct, frozen=True, forbid_unknown_fields=True):
    """What a customer brings within the horizon."""

    floor: float
    factor: float
    median: Forest
    root: Forest


class SegmentPart(Struct, frozen=True, forbid_unknown_fields=True):
    """One segment of a document."""

    code: _Code
    names: dict[str, _Name]
    centroid: list[float]
    traits: list[dict[str, Any]] = []
    """What distinguishes it; for people."""


class SegmentsPart(Struct, frozen=True, forbid_unknown_fields=True):
    """Behaviour segments of a document."""

    facets: list[Scale]
    segments: list[SegmentPart]
    bound: float = BOUND


class Document(Struct, frozen=True, forbid_unknown_fields=True):
    """All of a model, as JSON holds it."""

    features: list[str]
    horizon_days: int
    base_currency: str
    first_day: date
    """The first day with an event of the data it was made from."""
    bins: list[list[float]]
    """Per column the edges of its bins."""
    churn: Churn
    value: Value
    segments: SegmentsPart
    typical: list[float]
    """Per feature the median of the customers it was made from."""
    card: dict[str, Any]
    """What it was made from and how good it is; for people."""
    silence: Silence | None = None
    """What gives two columns more; None for the features alone."""
    format: int = FORMAT
    features_version: int = FEATURES_VERSION

    def encoded(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)


class Forecasts(NamedTuple):
    """What is foretold, a row a customer."""

    churn: Numbers
    value: Numbers


class Forecaster:
    """Churn and value of a document, made ready."""

    def __init__(
        self, bins: Sequence[Numbers], churn: Churn, value: Value, silence: Silence | None, horizon_days: int
    ) -> None:
        self._bins = Bins(tuple(bins))
        self._silence = silence
        self._churn, self._value, self._horizon_days = churn, value, horizon_days
        self._forests = Forests(self._bins, (churn.trees, value.median, value.root))

    def forecast(self, features: Numbers, history_days: Numbers | int) -> Forecasts:
        """Of customers, a row each, who have been watched for so many days."""
        linear, (trees, median, root) = self._walked(features)
        log_odds = self._calibrated((linear + trees) / 2)
        churn = np.clip(1 / (1 + np.exp(-log_odds)), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        ratio = np.maximum(np.maximum(median, root * root * root), 0.0)
        scale = own_scale(features, history_days, self._horizon_days, self._value.floor)
        return Forecasts(churn, ratio * scale * self._value.factor)

    def log_odds(self, features: Numbers) -> Numbers:
        """Of churn, calibrated."""
        linear, (trees, _, _) = self._walked(features)
        return self._calibrated((linear + trees) / 2)

    def _walked(self, features: Numbers) -> tuple[Numbers, Numbers]:
        features = widened(features, self._silence, self._horizon_days)
        return self._churn.linear.log_odds(logs(features)), self._forests.sums(self._bins.codes(features))

    def _calibrated(self, log_odds: Numbers) -> Numbers:
        line: Numbers = self._churn.slope * log_odds + self._churn.intercept
        return np.clip(line, -_STEEPEST, _STEEPEST)


def widened(features: Numbers, silence: Silence | None, horizon_days: int) -> Numbers:
    """The columns that a model looks at."""
    if silence is None:
        return features
    return np.column_stack([features, silence.columns(features, horizon_days)])


def logs(features: Numbers) -> Numbers:
    """A logarithm for both signs; a row a feature, a column a customer."""
    columns = np.ascontiguousarray(features.T)
    found: Numbers = np.sign(columns) * np.log1p(np.abs(columns))
    return found


def past_revenue(features: Numbers, history_days: Numbers | int, horizon_days: int) -> Numbers:
    """Net revenue of the past year, or of as much of it as there is, scaled to the horizon."""
    found: Numbers = features[:, COLUMNS["net_365d"]] * (horizon_days / np.clip(history_days, 1, YEAR))
    return found


def own_scale(features: Numbers, history_days: Numbers | int, horizon_days: int, floor: float) -> Numbers:
    """The money that a customer's value is foretold as a ratio of."""
    return np.maximum(past_revenue(features, history_days, horizon_days), 0.0) + floor


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model says of some customers; columns in the order of the feature table's customers."""

    knows: npt.NDArray[np.bool_]
    """There is an order up to as_of; of the others nothing is said, and the columns below hold 0."""
    churn_probability: Numbers
    expected_value: Numbers
    """Net revenue within the horizon, in units of the base currency."""
    segment: npt.NDArray[np.intp]
    """Position in the model's segments."""
    confidence: Numbers
    """Of the segment, from 0 on a border to 1 at its centre."""


class Model:
    """What scores customers; made by `parse`."""

    def __init__(self, document: Document, *, version: int) -> None:
        self.version = version
        """What answers call it by: model:N."""
        self.horizon_days = document.horizon_days
        self.base_currency = document.base_currency
        self.segments = tuple(Named(each.code, each.names) for each in document.segments.segments)
        self.card: Mapping[str, Any] = document.card
        self.document = document
        edges = [np.array(each, dtype=np.float64) for each in document.bins]
        self._forecaster = Forecaster(edges, document.churn, document.value, document.silence, document.horizon_days)
        centroids = [each.centroid for each in document.segments.segments]
        self._centroids = np.array(centroids, dtype=np.float64).reshape(len(centroids), len(document.segments.facets))
        self._first_day = document.first_day.toordinal()

    def score(self, features: FeatureTable) -> Scores:
        """What it says of each customer."""
        knows = features.column("order_days") > 0
        history_days = max(features.as_of.toordinal() + 1 - self._first_day, 1)
        foretold = self._forecaster.forecast(features.values, history_days)
        distances = squared_distances(scaled(self.document.segments.facets, features.values), self._centroids)
        return Scores(
            knows,
            np.where(knows, foretold.churn, 0.0),
            np.where(knows, foretold.value, 0.0),
            np.where(knows, np.argmin(distances, axis=0), 0),
            np.where(knows, _confidence(distances), 0.0),
        )

    def drivers(self, features: FeatureTable, row: int) -> Sequence[Driver]:
        """The main reasons of one customer's churn probability, the strongest first."""
        own = features.values[row]
        others = np.repeat(own[None, :], len(GROUPS) + 1, axis=0)
        for number, group in enumerate(GROUPS.values(), start=1):
            columns = [COLUMNS[name] for name in group.features]
            others[number, columns] = [self.document.typical[column] for column in columns]
        log_odds = self._forecaster.log_odds(others)
        known = dict(zip(FEATURES, own.tolist(), strict=True))
        found = [
            driver(code, effect, known, self.base_currency)
            for code, effect in zip(GROUPS, (log_odds[0] - log_odds[1:]).tolist(), strict=True)
            if abs(effect) >= _TELLING
        ]
        return sorted(found, key=lambda each: -abs(each.effect))


def _confidence(distances: Numbers) -> Numbers:
    if len(distances) == 1:
        return np.ones(distances.shape[1])
    first, second = np.sqrt(np.partition(distances, 1, axis=0)[:2])
    found: Numbers = 1 - np.divide(first, second, out=np.ones_like(first), where=second > 0)
    return found


def parse(document: bytes | str, *, version: int) -> Model:
    """Reads a model.

    Args:
        document: JSON.
        version: What it is known by.

    Raises:
        ModelInvalid: names the place in the document, what is there and what is expected.
    """
    raw = document.encode() if isinstance(document, str) else document
    if len(raw) > LARGEST_DOCUMENT:
        raise ModelInvalid(f"the model has {len(raw):,} bytes; at most {LARGEST_DOCUMENT:,} are read")
    if b"\\u0000" in raw:
        raise ModelInvalid("the model has a character \\u0000, which the database cannot keep")
    try:
        found = msgspec.json.decode(raw, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # a ValidationError is a DecodeError
        raise ModelInvalid(f"the model is not understood: {error}") from None
    except RecursionError:
        raise ModelInvalid("the model is nested too deeply") from None
    _check(found)
    return Model(found, version=version)


def _check(document: Document) -> None:
    if document.format != FORMAT:
        raise ModelInvalid(f"the model's format is {document.format}; {FORMAT} is expected: train it anew")
    if document.features_version != FEATURES_VERSION or document.features != list(FEATURES):
        raise ModelInvalid(
            f"the model is of features {document.features_version}, and they are computed as of {FEATURES_VERSION} "
            "here: train it anew"
        )
    if not 1 <= document.horizon_days <= _LONGEST_HORIZON:
        raise ModelInvalid(f"horizon_days is {document.horizon_days}; 1 to {_LONGEST_HORIZON} is expected")
    if document.base_currency not in MINOR_UNITS:
        raise ModelInvalid(f"base_currency is {document.base_currency!r}; an ISO 4217 code is expected")
    _check_numbers("typical", document.typical, len(FEATURES))
    columns = len(FEATURES) + (NUMBER if document.silence is not None else 0)
    _check_silence(document.silence)
    _check_bins(document.bins, columns)
    linear, churn, value = document.churn.linear, document.churn, document.value
    for name, numbers in (("centre", linear.centre), ("coefficients", linear.coefficients), ("spread", linear.spread)):
        _check_numbers(f"churn.linear.{name}", numbers, columns)
    if min(linear.spread) < _SMALLEST_DIVISOR:
        raise ModelInvalid(f"churn.linear.spread: all have to be {_SMALLEST_DIVISOR:g} at least")
    _check_numbers("churn", (linear.intercept, churn.slope, churn.intercept), 3)
    _check_numbers("value", (value.floor, value.factor), 2)
    if not (value.floor > 0 and value.factor > 0):
        raise ModelInvalid("value: floor and factor have to be above 0")
    edges = [len(each) for each in document.bins]
    for where, forest in (("churn.trees", churn.trees), ("value.median", value.median), ("value.root", value.root)):
        _check_forest(where, forest, edges)
    _check_segments(document.segments)


def _check_numbers(where: str, numbers: Sequence[float], expected: int) -> None:
    if len(numbers) != expected:
        raise ModelInvalid(f"{where} has {len(numbers)} numbers; {expected} are expected")
    for position, number in enumerate(numbers):
        if not (math.isfinite(number) and abs(number) <= _LARGEST):
            raise ModelInvalid(f"{where}[{position}] is {number}; a number up to {_LARGEST:g} is expected")


def _check_silence(silence: Silence | None) -> None:
    if silence is None:
        return
    parameters = (silence.r, silence.alpha, silence.a, silence.b)
    _check_numbers("silence", parameters, len(parameters))
    if not _LEAST_SHAPE <= min(parameters) <= max(parameters) <= 1 / _LEAST_SHAPE:
        raise ModelInvalid(f"silence is {parameters}; {_LEAST_SHAPE:g} to {1 / _LEAST_SHAPE:g} is expected of each")


def _check_bins(bins: Sequence[Sequence[float]], columns: int) -> None:
    if len(bins) != columns:
        raise ModelInvalid(f"bins has {len(bins)} columns; {columns} are expected")
    for name, edges in enumerate(bins):
        if len(edges) >= MOST_BINS:
            raise ModelInvalid(f"bins[{name}] has {len(edges)} edges; at most {MOST_BINS - 1} are expected")
        _check_numbers(f"bins[{name}]", edges, len(edges))
        if any(one >= other for one, other in itertools.pairwise(edges)):
            raise ModelInvalid(f"bins[{name}]: each edge has to be above the one before it")


def _check_forest(where: str, forest: Forest, edges: Sequence[int]) -> None:
    _check_numbers(f"{where}.start", (forest.start,), 1)
    if len(forest.trees) > MOST_TREES:
        raise ModelInvalid(f"{where} has {len(forest.trees)} trees; at most {MOST_TREES} are expected")
    for number, tree in enumerate(forest.trees):
        tree.check(edges, f"{where}.trees[{number}]")
        _check_numbers(f"{where}.trees[{number}].value", tree.value, len(tree.value))


def _check_segments(part: SegmentsPart) -> None:
    if part.bound != BOUND:
        raise ModelInvalid(f"segments.bound is {part.bound}; {BOUND} is expected: train it anew")
    facets = [each.facet for each in part.facets]
    if not set(facets) <= set(FACETS) or len(set(facets)) != len(facets):
        raise ModelInvalid(f"segments.facets are {', '.join(facets)}; each one of {', '.join(FACETS)} at most once")
    for each in part.facets:
        _check_numbers(f"segments.facets, {each.facet}", (each.unit, each.centre, each.spread), 3)
        if min(each.unit, each.spread) < _SMALLEST_DIVISOR:
            raise ModelInvalid(
                f"segments.facets, {each.facet}: unit and spread have to be {_SMALLEST_DIVISOR:g} at least"
            )
    if not 1 <= len(part.segments) <= MOST_SEGMENTS:
        raise ModelInvalid(f"there are {len(part.segments)} segments; 1 to {MOST_SEGMENTS} are expected")
    codes = [each.code for each in part.segments]
    if len(set(codes)) != len(codes):
        raise ModelInvalid(f"segments have the codes {', '.join(codes)}; each needs its own")
    for segment in part.segments:
        if set(segment.names) != set(LANGUAGES):
            raise ModelInvalid(f"segment {segment.code}: names in {', '.join(LANGUAGES)} are expected")
        _check_numbers(f"centroid of segment {segment.code}", segment.centroid, len(facets))
