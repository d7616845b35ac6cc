"""Behaviour segments: customers who behave alike, by k-means over a few facets of what they did.

Laws: a model is numbers and names, so that it can be written down as JSON, read again, and score with numpy what
scikit-learn would; fitted twice on the same customers it is the same; no outcome is looked at.

What a facet is, and which label is nearest, is `segmentation.facets`, where the live system finds it too. A facet in
which customers do not differ is left out. Segments are in the order of their value, and are named by the facets in
which their centroid is farthest from the mean of all customers: a name says what distinguishes, and does not depend on
the order of anything.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from segment_trainer.examples import Examples, Rows
from segment_trainer.failures import NotPossible
from segmentation.facets import BOUND, FACETS, Scale, bent, known, nearest, scaled
from segmentation.features import COLUMNS, FEATURES_VERSION, Numbers
from segmentation.scoring import SegmentPart, SegmentsPart

FORMAT: Final = 1
"""Of a model that was written down; grows when a key changes its meaning."""
LANGUAGES: Final = ("en", "zh")
_QUARTILES_OF_NORMAL: Final = 1.349
_STARTS: Final = 4
_FEWEST_KNOWN: Final = 0.5
"""A facet known of fewer customers is left out."""
_TELLS: Final = 0.5
"""A centroid nearer to the mean of all, in the facet's standard deviations, is not named after the facet."""
_NAMED_AFTER: Final = 2
_FEW: Final = 64
_NO_SPREAD: Final = 1e-9


_BY_VALUE: Final = ("value", "frequency", "recency")
_ONLY: Final = {"code": "all", "en": "all customers", "zh": "全部客户"}
_AVERAGE: Final = {"code": "average", "en": "average", "zh": "一般"}
_JOINED: Final = {"code": "-", "en": ", ", "zh": "、"}


class Trait(NamedTuple):
    """What distinguishes a segment in one facet."""

    facet: str
    deviation: float
    """Of the centroid from the mean of all customers, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One of the segments."""

    code: str
    names: Mapping[str, str]
    """By language."""
    traits: Sequence[Trait]
    """The farthest first."""


@dataclass(frozen=True, slots=True)
class SegmentModel:
    """Which segment a customer behaves like."""

    scales: Sequence[Scale]
    centroids: Numbers
    """A row a segment, a column a facet, scaled."""
    segments: Sequence[Segment]

    @classmethod
    def fit(cls, examples: Examples, number: int) -> "SegmentModel":
        """So many segments of these customers; one where they are all alike."""
        scales = scales_of(examples)
        points = scaled(scales, examples.features)
        number = distinct(points, number)
        if number <= 1:
            return cls(scales, points.mean(axis=0, keepdims=True), [_segment(_ONLY, [])])
        centroids = kmeans(points, number).cluster_centers_
        order = _by_value(scales, centroids)
        return cls(scales, centroids[order], _named(scales, centroids[order], points))

    def __len__(self) -> int:
        return len(self.segments)

    def labels(self, features: Numbers) -> Rows:
        """Per customer the row of the nearest centroid; of equally near ones the first."""
        return nearest(scaled(self.scales, features), self.centroids)

    def renamed_like(self, previous: "SegmentModel", features: Numbers) -> "SegmentModel":
        """The same segments with the codes and names of those of an earlier model that hold the same customers.

        A segment without a counterpart keeps its own name, unless that is taken.
        """
        before, after = previous.labels(features), self.labels(features)
        pairs = matched(before, after, len(previous), len(self))
        taken = {previous.segments[old].code for old in pairs.values()}
        segments = []
        for row, segment in enumerate(self.segments):
            words = {"code": segment.code, **segment.names}
            if row in pairs:
                carried = previous.segments[pairs[row]]
                words = {"code": carried.code, **carried.names}
            elif segment.code in taken:
                words = {**_numbered(words, taken)}
            taken.add(words["code"])
            segments.append(_segment(words, segment.traits))
        return replace(self, segments=segments)

    def plain(self) -> dict[str, Any]:
        """As JSON holds it; `of` reads it again."""
        return {
            "format": FORMAT,
            "kind": "behaviour_segments",
            "features_version": FEATURES_VERSION,
            "bound": BOUND,
            "facets": [
                {
                    "facet": each.facet,
                    "feature": FACETS[each.facet].feature,
                    "known_by": FACETS[each.facet].known_by,
                    "bend": FACETS[each.facet].bend,
                    "unit": each.unit,
                    "centre": each.centre,
                    "spread": each.spread,
                }
                for each in self.scales
            ],
            "segments": [
                {
                    "code": segment.code,
                    "names": dict(segment.names),
                    "traits": [trait._asdict() for trait in segment.traits],
                    "centroid": centroid.tolist(),
                }
                for segment, centroid in zip(self.segments, self.centroids, strict=True)
            ],
        }

    @classmethod
    def of_part(cls, part: SegmentsPart) -> "SegmentModel":
        """The segments of a model's document."""
        segments = [Segment(each.code, each.names, [Trait(**trait) for trait in each.traits]) for each in part.segments]
        centroids = np.array([each.centroid for each in part.segments], dtype=np.float64)
        return cls(part.facets, centroids.reshape(len(segments), len(part.facets)), segments)

    def part(self) -> SegmentsPart:
        """As a model's document holds it."""
        return SegmentsPart(
            facets=list(self.scales),
            segments=[
                SegmentPart(each.code, dict(each.names), centroid.tolist(), [trait._asdict() for trait in each.traits])
                for each, centroid in zip(self.segments, self.centroids, strict=True)
            ],
        )

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "SegmentModel":
        """The model that was written down.

        Raises:
            NotPossible: It is of another format, or of features that are computed in another way now.
        """
        for name, ours in (("format", FORMAT), ("features_version", FEATURES_VERSION), ("bound", BOUND)):
            if plain.get(name) != ours:
                raise NotPossible(
                    f"the segment model has {name} {plain.get(name)!r}; {ours} is expected: train it anew"
                )
        for each in plain["facets"]:
            known = FACETS.get(each["facet"])
            if known is None or (known.feature, known.bend) != (each["feature"], each["bend"]):
                raise NotPossible(f"the segment model has an unknown facet {each['facet']!r}: train it anew")
        segments = [
            Segment(each["code"], each["names"], [Trait(**trait) for trait in each["traits"]])
            for each in plain["segments"]
        ]
        scales = [Scale(each["facet"], each["unit"], each["centre"], each["spread"]) for each in plain["facets"]]
        centroids = np.array([each["centroid"] for each in plain["segments"]], dtype=np.float64)
        return cls(scales, centroids.reshape(len(segments), len(scales)), segments)


def scales_of(examples: Examples) -> list[Scale]:
    """The facets in which these customers differ."""
    return [scale for facet in FACETS if (scale := _scale_of(facet, examples)) is not None]


def _scale_of(facet: str, examples: Examples) -> Scale | None:
    """None where customers do not differ, or too little is known."""
    there = known(facet, examples.features)
    if not len(there) or there.mean() < _FEWEST_KNOWN:
        return None
    seen = examples.features[there]
    unit = 1.0
    if FACETS[facet].bend == "money":
        sizes = np.abs(seen[:, COLUMNS[FACETS[facet].feature]])
        unit = float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else 1.0
    values = bent(facet, seen, unit)
    low, centre, high = (float(each) for each in np.quantile(values, (0.25, 0.5, 0.75)))
    # Of what most customers have nothing at all the quartiles say nothing.
    spread = (high - low) / _QUARTILES_OF_NORMAL or float(values.std())
    return Scale(facet, unit, centre, spread) if spread > _NO_SPREAD else None


def kmeans(points: Numbers, number: int, *, starts: int = _STARTS, seed: int = 0) -> KMeans:
    """The clusters of scikit-learn; one thread, since sums of several are rounded differently."""
    with threadpool_limits(1):
        return KMeans(number, n_init=starts, random_state=seed).fit(points)


def distinct(points: Numbers, most: int) -> int:
    """How many of them differ, up to so many: there are no more clusters than that."""
    if not points.shape[1]:
        return min(1, most)
    # Mostly a few already tell that there are enough.
    few = len(np.unique(points[:_FEW], axis=0))
    return most if few >= most else min(len(np.unique(points, axis=0)), most)


def matched(before: Rows, after: Rows, earlier: int, later: int) -> dict[int, int]:
    """Which earlier label each later one is: the pairs that keep the most customers (Hungarian method)."""
    shared = np.zeros((earlier, later), dtype=np.int64)
    np.add.at(shared, (before, after), 1)
    olds, news = linear_sum_assignment(shared, maximize=True)
    return {int(new): int(old) for old, new in zip(olds, news, strict=True) if shared[old, new]}


def _by_value(scales: Sequence[Scale], centroids: Numbers) -> Rows:
    facets = [each.facet for each in scales]
    first = [facets.index(name) for name in _BY_VALUE if name in facets]
    columns = [*first, *(column for column in range(len(facets)) if column not in first)]
    return np.lexsort([-np.round(centroids[:, column], 9) for column in reversed(columns)])


def _named(scales: Sequence[Scale], centroids: Numbers, points: Numbers) -> list[Segment]:
    deviations = (centroids - points.mean(axis=0)) / np.maximum(points.std(axis=0), _NO_SPREAD)
    found: list[Segment] = []
    for row in deviations:
        farthest = np.argsort(-np.abs(row), kind="stable")
        traits = [Trait(scales[column].facet, float(row[column])) for column in farthest]
        taken = {each.code for each in found}
        words = next((words for words in _descriptions(traits) if words["code"] not in taken), None)
        found.append(_segment(words or _numbered(next(_descriptions(traits)), taken), traits))
    return found


def _descriptions(traits: Sequence[Trait]) -> Iterator[Mapping[str, str]]:
    """Names by the two farthest facets, then by one more each time."""
    telling: list[tuple[int, Mapping[str, str]]] = []
    for each in traits:
        end = FACETS[each.facet].high if each.deviation > 0 else FACETS[each.facet].low
        if end is not None and abs(each.deviation) >= _TELLS:
            telling.append((list(FACETS).index(each.facet), end))
    if not telling:
        yield _AVERAGE
        return
    for number in range(min(_NAMED_AFTER, len(telling)), len(telling) + 1):
        ends = [end for _, end in sorted(telling[:number], key=lambda one: one[0])]
        yield {kind: joint.join(end[kind] for end in ends) for kind, joint in _JOINED.items()}


def _numbered(words: Mapping[str, str], taken: Collection[str]) -> Mapping[str, str]:
    """The same words with the first number that makes them others."""
    number = next(each for each in range(2, len(taken) + 3) if f"{words['code']}-{each}" not in taken)
    return {kind: f"{word}-{number}" if kind == "code" else f"{word} {number}" for kind, word in words.items()}


def _segment(words: Mapping[str, str], traits: Sequence[Trait]) -> Segment:
    return Segment(words["code"], {language: words[language] for language in LANGUAGES}, traits)
