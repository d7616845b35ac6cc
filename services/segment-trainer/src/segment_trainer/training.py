"""From a source of customers to a model that can be published: its parameters, and a card that says how good they are.

Laws: where the past is long enough, the parameters published are the very ones that were measured, on a quarter that
they had not seen; where it is not, the figures are out of fold and the parameters are fitted to everyone, and the card
says which. The card holds all that the rules for publishing and the watch for drift need.
"""

import hashlib
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import numpy as np
from msgspec import structs

from segment_trainer import drift, evaluation, segmenting
from segment_trainer.clusters import SegmentModel
from segment_trainer.evaluation import OURS, Comparison
from segment_trainer.examples import Examples, Question
from segment_trainer.failures import NotPossible
from segment_trainer.models import Learnt
from segment_trainer.sources import Say, Source
from segmentation import scoring
from segmentation.features import FEATURES, FeatureTable
from segmentation.scoring import Document, Model

CARD_FORMAT: Final = 1
HORIZON_DAYS: Final = 90
_QUARTER: Final = 91
_OTHER_CUTS: Final = 2
_OTHER_FIGURES: Final = {
    "churn": ("auroc", "log_loss", "calibration_error"),
    "value": ("mae", "spearman", "total_ratio"),
}
_OTHER_METHODS: Final = ("naive", "bg_nbd", OURS)


class InForce(NamedTuple):
    """The model that a new one is held against."""

    model: Model
    sha256: str


def sha256_of(document: str | bytes) -> str:
    """What a document is recognised by."""
    return hashlib.sha256(document.encode() if isinstance(document, str) else document).hexdigest()


def latest(source: Source, horizon_days: int) -> Question:
    """The latest cut whose horizon is over."""
    return Question(source.last_day - timedelta(days=horizon_days - 1), horizon_days)


def train(
    source: Source, question: Question, say: Say, *, now: datetime, in_force: InForce | None, keep_segments: bool
) -> bytes:
    """A model with its card, as JSON.

    Args:
        source: Customers.
        question: Where the figures are measured.
        say: Hears of the progress.
        now: Stands in the card.
        in_force: Is measured beside it, and gives its segments' names to those that hold the same customers.
        keep_segments: Its segments stay as they are.

    Raises:
        NotPossible: says what is possible.
    """
    comparable = in_force is not None and _comparable(in_force.model, source, question)
    comparison = evaluation.compare(
        source, question, say, in_force=in_force.model if in_force is not None and comparable else None
    )
    examples = comparison.examples
    learnt = comparison.learnt
    if learnt is None:
        say("training on everyone ...")
        learnt = Learnt.fit(examples)
    segments, jaccard = _segments(comparison, in_force, keep_segments=keep_segments)
    document = Document(
        features=list(FEATURES),
        horizon_days=question.horizon_days,
        base_currency=source.base_currency,
        first_day=source.first_day,
        bins=[edges.tolist() for edges in learnt.fitted.bins.edges],
        churn=learnt.churn,
        value=learnt.value,
        segments=segments.part(),
        typical=np.median(examples.features, axis=0).tolist(),
        card={},
        silence=learnt.fitted.silence,
    )
    model = Model(document, version=0)
    card = {
        "format": CARD_FORMAT,
        "trained_at": now.isoformat(timespec="seconds"),
        "data": _data(source),
        **evaluation.figures(comparison),
        "segments": _told(segments, jaccard, comparison),
        "in_force": None if in_force is None else _beside(in_force, segments, examples, comparable=comparable),
        "other_cuts": _other_cuts(source, question, say),
        "reference": drift.Reference.of(model, _table(examples)).plain(),
    }
    card["training"] |= {"parameters_of": "the measured model" if comparison.learnt else "everyone at the cut"}
    written = structs.replace(document, card=card).encoded()
    scoring.parse(written, version=0)
    return written


def _comparable(model: Model, source: Source, question: Question) -> bool:
    return model.horizon_days == question.horizon_days and model.base_currency == source.base_currency


def _segments(
    comparison: Comparison, in_force: InForce | None, *, keep_segments: bool
) -> tuple[SegmentModel, list[float]]:
    """The segments to publish, and how well each comes again."""
    chosen = comparison.segments.chosen
    jaccard = list(chosen.jaccard) if chosen else []
    if in_force is None:
        if keep_segments:
            raise NotPossible("there is no model in force whose segments could be kept; leave --keep-segments out")
        return comparison.segments.model, jaccard
    before = SegmentModel.of_part(in_force.model.document.segments)
    if keep_segments:
        kept = segmenting.stability_of(before, comparison.examples).tolist() if len(before) > 1 else []
        return before, kept
    return comparison.segments.model.renamed_like(before, comparison.examples.features), jaccard


def _told(segments: SegmentModel, jaccard: list[float], comparison: Comparison) -> dict[str, Any]:
    examples = comparison.examples
    labels = segments.labels(examples.features)
    rows = [labels == row for row in range(len(segments))]
    return {
        "number": len(segments),
        "jaccard_mean": float(np.mean(jaccard)) if jaccard else None,
        "jaccard_lowest": min(jaccard, default=None),
        "profiles": [
            {
                "code": segment.code,
                "names": dict(segment.names),
                "customers": int(inside.sum()),
                "share": float(inside.mean()),
                "jaccard": jaccard[row] if jaccard else None,
                "churn_rate": float(examples.churned[inside].mean()) if inside.any() else None,
                "value_mean": float(examples.value[inside].mean()) if inside.any() else None,
            }
            for row, (segment, inside) in enumerate(zip(segments.segments, rows, strict=True))
        ],
        "moved_in_a_month": comparison.segments.moved,
    }


def _beside(in_force: InForce, segments: SegmentModel, examples: Examples, *, comparable: bool) -> dict[str, Any]:
    before = SegmentModel.of_part(in_force.model.document.segments)
    theirs = np.array([each.code for each in before.segments])[before.labels(examples.features)]
    ours = np.array([each.code for each in segments.segments])[segments.labels(examples.features)]
    return {
        "sha256": in_force.sha256,
        "version": in_force.model.version or None,
        "horizon_days": in_force.model.horizon_days,
        "base_currency": in_force.model.base_currency,
        "comparable": comparable,
        "renamed_share": float((theirs != ours).mean()),
    }


def _data(source: Source) -> dict[str, Any]:
    return {
        "source": source.name,
        "sha256": source.sha256,
        "base_currency": source.base_currency,
        "first_day": source.first_day.isoformat(),
        "last_day": source.last_day.isoformat(),
        "messages": source.read.messages,
        "applied": source.read.applied,
        "refused": dict(sorted(source.read.refused.items())),
    }


def _other_cuts(source: Source, question: Question, say: Say) -> list[dict[str, Any]]:
    """The same procedure, a quarter and two quarters earlier, where there is past enough."""
    found: list[dict[str, Any]] = []
    for number in range(1, _OTHER_CUTS + 1):
        other = Question(question.cut - timedelta(days=_QUARTER * number), question.horizon_days)
        if (other.cut - source.first_day).days < question.horizon_days:
            break
        say(f"the same at {other.cut} ...")
        try:
            judged = evaluation.judge(source, other, say)
        except NotPossible:
            break
        told = evaluation.figures(judged)
        found.append(
            {
                **{key: told[key] for key in ("cut", "horizon_days", "customers", "churn_rate", "training")},
                **{
                    part: {name: {key: told[part][name][key] for key in keys} for name in _OTHER_METHODS}
                    for part, keys in _OTHER_FIGURES.items()
                },
                "naive_wins": told["naive_wins"],
            }
        )
    return found


def _table(examples: Examples) -> FeatureTable:
    return FeatureTable(examples.question.as_of, examples.customer_ids, examples.features)
