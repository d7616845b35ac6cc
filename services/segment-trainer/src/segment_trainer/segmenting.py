"""How many behaviour segments there are at a cut, and what they are worth.

Laws: the number is chosen by what was known at the cut; the horizon judges only. A number counts if every segment of it
comes again in resamples (mean clusterwise Jaccard, Hennig 2007, above 0.75) and none is tiny; of those that count, the
smallest that foretells the quarter before the cut nearly as well as the best. If none counts, there is one segment,
and the answer says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import numpy as np
from scipy.stats import rankdata

from segment_trainer import clusters, measures
from segment_trainer.clusters import SegmentModel
from segment_trainer.examples import FOLDS, Examples, Question, Rows
from segment_trainer.rules import PRIOR, RecencyFrequencyMoney
from segment_trainer.sources import Say
from segmentation import tiering
from segmentation.facets import scaled
from segmentation.features import Numbers
from segmentation.metrics import column
from segmentation.tiering import TIERS, TierRules

MOST_SEGMENTS: Final = 8
MOST_CLUSTERED: Final = 20_000
"""Customers, chosen by a hash, that centroids are made from; everyone is labelled."""
MOST_BOOTSTRAPPED: Final = 5_000
"""Customers, chosen by a hash, that are resampled; more would only make clusters look more stable."""
BOOTSTRAPS: Final = 50
STABLE: Final = 0.75
HIGHLY_STABLE: Final = 0.85
MONTH: Final = 30
QUARTER: Final = 91
SMALLEST_SHARE: Final = 0.02
SMALLEST: Final = 10
_NEARLY: Final = 0.01
_STARTS: Final = 2
_CENTS: Final = 100
_SHOWN: Final = ("recency_days", "orders_365d", "net_365d", "order_value_mean", "returned_share_365d")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A number of segments, and what speaks for it."""

    segments: int
    jaccard: Sequence[float]
    """By segment, over resamples."""
    smallest_share: float
    foretells: float | None
    """Of the quarter before the cut, out of fold: mean of the explained shares of churn and of the ranks of value."""
    verdict: str
    """chosen, stable, unstable or too_small."""


@dataclass(frozen=True, slots=True)
class Explained:
    """What a label alone says of the horizon; rates are learnt from the other folds."""

    groups: int
    churn_auroc: float | None
    churn: float | None
    value: float | None
    value_ranks: float | None
    """Shares of the variance."""


@dataclass(frozen=True, slots=True)
class Refit:
    """The same number of segments made from an earlier cut, and whether the customers of the cut keep their label."""

    question: Question
    kept_by_matching: float
    kept_by_name: float


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The segments at a cut."""

    model: SegmentModel
    labels: Rows
    candidates: Sequence[Candidate]
    chosen: Candidate | None
    """None for one segment."""
    explained: dict[str, Explained]
    compared: int
    """Customers known a month before the cut."""
    stayed: Sequence[float | None]
    """By segment of a month before, the share that is in it still."""
    moved: float | None
    refits: Sequence[Refit]


def looks_back(question: Question) -> list[Question]:
    """The earlier moments that are asked about: a month and a quarter, both over at the cut."""
    return [Question(question.cut - timedelta(days=days), days) for days in (MONTH, QUARTER)]


def segment(examples: Examples, earlier: Sequence[Examples], say: Say = lambda _: None) -> Segmentation:
    """Chooses, makes and judges the segments.

    Args:
        examples: At the cut.
        earlier: Of `looks_back`, where there was anything then; may be some of the customers.
        say: Tells how far it is.
    """
    taught = examples.sample(MOST_CLUSTERED)
    quarters = [each for each in earlier if each.question.horizon_days == QUARTER]
    months = [each for each in earlier if each.question.horizon_days == MONTH]
    models, candidates, chosen = _choose(taught, quarters[0] if quarters else None, say)
    number = chosen.segments if chosen else 1
    model = models[number]
    labels = model.labels(examples.features)
    compared, stayed, moved = _moves(model, examples, labels, months)
    refits = [_refit(model, examples, labels, each) for each in earlier if number > 1]
    return Segmentation(
        model, labels, candidates, chosen, _explained(examples, labels, number), compared, stayed, moved, refits
    )


def _choose(
    examples: Examples, quarter: Examples | None, say: Say
) -> tuple[dict[int, SegmentModel], list[Candidate], Candidate | None]:
    models = {1: SegmentModel.fit(examples, 1)}
    found: list[Candidate] = []
    resampled = examples.sample(MOST_BOOTSTRAPPED)
    scales = clusters.scales_of(examples)
    points = scaled(scales, resampled.features)
    for number in range(2, clusters.distinct(points, MOST_SEGMENTS) + 1):
        say(f"trying {number} segments ...")
        model = models[number] = SegmentModel.fit(examples, number)
        sizes = np.bincount(model.labels(examples.features), minlength=number)
        share = float(sizes.min() / len(examples))
        if share < SMALLEST_SHARE or sizes.min() < SMALLEST:
            found.append(Candidate(number, [], share, None, "too_small"))
            continue
        jaccard = stability(points, model.labels(resampled.features), number)
        stable = bool(jaccard.min() > STABLE)
        foretells = None if quarter is None else _foretells(model, quarter)
        found.append(Candidate(number, jaccard.tolist(), share, foretells, "stable" if stable else "unstable"))
    return models, *_judged(found)


def _judged(candidates: Sequence[Candidate]) -> tuple[list[Candidate], Candidate | None]:
    stable = [each for each in candidates if each.verdict == "stable"]
    if not stable:
        return list(candidates), None
    known = [each.foretells for each in stable if each.foretells is not None]
    # without a quarter to look at, the most that is stable
    enough = [each for each in stable if each.foretells is not None and each.foretells >= max(known) - _NEARLY]
    number = enough[0].segments if enough else stable[-1].segments
    marked = [
        Candidate(
            each.segments,
            each.jaccard,
            each.smallest_share,
            each.foretells,
            "chosen" if each.segments == number else each.verdict,
        )
        for each in candidates
    ]
    return marked, next(each for each in marked if each.verdict == "chosen")


def stability(points: Numbers, labels: Rows, number: int) -> Numbers:
    """Per cluster the mean Jaccard similarity with the most similar cluster of a resample, over the points drawn."""
    chance = np.random.default_rng(0)
    total = np.zeros(number)
    for seed in range(BOOTSTRAPS):
        drawn = chance.integers(0, len(points), len(points))
        found = clusters.distinct(points[drawn], number)
        again = clusters.kmeans(points[drawn], found, starts=_STARTS, seed=seed).labels_
        distinct, first = np.unique(drawn, return_index=True)
        shared = np.zeros((number, found))
        np.add.at(shared, (labels[distinct], again[first]), 1)
        either = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0) - shared
        total += np.divide(shared, either, out=np.zeros_like(shared), where=either > 0).max(axis=1)
    mean: Numbers = total / BOOTSTRAPS
    return mean


def stability_of(model: SegmentModel, examples: Examples) -> Numbers:
    """The same of segments that were made earlier, among these customers."""
    resampled = examples.sample(MOST_BOOTSTRAPPED)
    return stability(scaled(model.scales, resampled.features), model.labels(resampled.features), len(model))


def _foretells(model: SegmentModel, quarter: Examples) -> float | None:
    said = _explains(quarter, model.labels(quarter.features), len(model), quarter.folds())
    known = [each for each in (said.churn, said.value_ranks) if each is not None]
    return float(np.mean(known)) if known else None


def _explained(examples: Examples, labels: Rows, number: int) -> dict[str, Explained]:
    tiers = _tiers(examples)
    cells, cell_number = RecencyFrequencyMoney.fit(examples).cells(examples)
    folds = examples.folds()
    return {
        "segment": _explains(examples, labels, number, folds),
        "tier": _explains(examples, tiers, len(TIERS), folds),
        "tier_and_segment": _explains(examples, tiers * number + labels, len(TIERS) * number, folds),
        "rfm": _explains(examples, cells, cell_number, folds),
    }


def _tiers(examples: Examples) -> Rows:
    net = np.round(examples.column("net_365d") * _CENTS).tolist()
    ranking = tiering.rank(column([int(each) for each in net]), examples.customer_ids, TierRules())
    return np.asarray(ranking.tiers, dtype=np.intp)


def _explains(examples: Examples, groups: Rows, number: int, folds: Rows) -> Explained:
    churned = examples.churned.astype(np.float64)
    churn = _out_of_fold(groups, number, churned, folds)
    # within folds: between them the means of one group differ, against what they foretell
    curves = [
        (curve, int((folds == fold).sum()))
        for fold in range(FOLDS)
        if (curve := measures.auroc(examples.churned[folds == fold], churn[folds == fold])) is not None
    ]
    area = sum(curve * weight for curve, weight in curves) / sum(weight for _, weight in curves) if curves else None
    ranks = rankdata(examples.value)
    return Explained(
        len(np.unique(groups)),
        area,
        _share(churned, churn),
        _share(examples.value, _out_of_fold(groups, number, examples.value, folds)),
        _share(ranks, _out_of_fold(groups, number, ranks, folds)),
    )


def _out_of_fold(groups: Rows, number: int, values: Numbers, folds: Rows) -> Numbers:
    """The mean of each one's group over the other folds, drawn a little towards the mean of all."""
    found = np.full(len(values), values.mean())
    for fold in range(FOLDS):
        others = folds != fold
        if others.any():
            sums = np.bincount(groups[others], values[others], minlength=number)
            counts = np.bincount(groups[others], minlength=number)
            means = (sums + PRIOR * values[others].mean()) / (counts + PRIOR)
            found[~others] = means[groups[~others]]
    return found


def _share(truth: Numbers, foretold: Numbers) -> float | None:
    spread = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((truth - foretold) ** 2).sum()) / spread if spread > 0 else None


def _moves(
    model: SegmentModel, examples: Examples, labels: Rows, months: Sequence[Examples]
) -> tuple[int, list[float | None], float | None]:
    """Customers known a month ago, by segment the share that is in it still, and the share that moved."""
    nobody: list[float | None] = [None] * len(model)
    if not months:
        return 0, nobody, None
    rows = {customer_id: row for row, customer_id in enumerate(examples.customer_ids)}
    # an order that was retracted since can leave a customer without any
    there = np.array([each in rows for each in months[0].customer_ids], dtype=np.bool_)
    now = labels[[rows[each] for each in months[0].customer_ids if each in rows]]
    then = model.labels(months[0].features[there])
    if not len(now):
        return 0, nobody, None
    stayed = [float((now[then == each] == each).mean()) if (then == each).any() else None for each in range(len(model))]
    return len(now), stayed, float((now != then).mean())


def _refit(model: SegmentModel, examples: Examples, labels: Rows, earlier: Examples) -> Refit:
    before = SegmentModel.fit(earlier.sample(MOST_CLUSTERED), len(model))
    theirs = before.labels(examples.features)
    pairs = clusters.matched(theirs, labels, len(before), len(model))
    same = np.array([pairs.get(each, -1) for each in range(len(model))])
    ours_named = np.array([each.code for each in model.segments])[labels]
    theirs_named = np.array([each.code for each in before.segments])[theirs]
    return Refit(earlier.question, float((same[labels] == theirs).mean()), float((ours_named == theirs_named).mean()))


def verdict(found: Segmentation) -> str:
    """highly_stable, stable, or one_segment."""
    if found.chosen is None:
        return "one_segment"
    return "highly_stable" if min(found.chosen.jaccard) > HIGHLY_STABLE else "stable"


def plain(found: Segmentation, examples: Examples) -> dict[str, Any]:
    """As JSON holds it; every key is explained in docs/quality.md."""
    chosen = found.chosen
    return {
        "number": len(found.model),
        "verdict": verdict(found),
        "jaccard_mean": float(np.mean(chosen.jaccard)) if chosen else None,
        "jaccard_lowest": min(chosen.jaccard) if chosen else None,
        "candidates": [
            {
                "segments": each.segments,
                "jaccard_mean": float(np.mean(each.jaccard)) if each.jaccard else None,
                "jaccard_lowest": min(each.jaccard, default=None),
                "smallest_share": each.smallest_share,
                "foretells": each.foretells,
                "verdict": each.verdict,
            }
            for each in found.candidates
        ],
        "profiles": [_profile(found, examples, row) for row in range(len(found.model))],
        "explains": {
            name: {
                "groups": each.groups,
                "churn_auroc": each.churn_auroc,
                "churn_explained": each.churn,
                "value_explained": each.value,
                "value_ranks_explained": each.value_ranks,
            }
            for name, each in found.explained.items()
        },
        "moved_in_a_month": {"customers": found.compared, "share": found.moved},
        "refits": [
            {
                "cut": each.question.cut.isoformat(),
                "kept_by_matching": each.kept_by_matching,
                "kept_by_name": each.kept_by_name,
            }
            for each in found.refits
        ],
        "model": found.model.plain(),
    }


def _profile(found: Segmentation, examples: Examples, row: int) -> dict[str, Any]:
    inside = found.labels == row
    number = int(inside.sum())
    segment_, chosen = found.model.segments[row], found.chosen
    churn, value = examples.churned.astype(np.float64), examples.value
    return {
        "code": segment_.code,
        "names": dict(segment_.names),
        "customers": number,
        "share": number / len(examples),
        "jaccard": chosen.jaccard[row] if chosen else None,
        "churn_rate": float(churn[inside].mean()) if number else None,
        "churn_lift": _over(churn[inside], churn),
        "value_mean": float(value[inside].mean()) if number else None,
        "value_lift": _over(value[inside], value),
        "value_share": float(value[inside].sum() / value.sum()) if value.sum() > 0 else None,
        "stayed_a_month": found.stayed[row],
        "medians": {name: float(np.median(examples.column(name)[inside])) if number else None for name in _SHOWN},
        "traits": [trait._asdict() for trait in segment_.traits],
    }


def _over(some: Numbers, everyone: Numbers) -> float | None:
    return float(some.mean() / everyone.mean()) if len(some) and everyone.mean() > 0 else None
