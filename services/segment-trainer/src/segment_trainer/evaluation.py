"""The comparison at a cut: the naive rules, RFM, the classics and our models, on the same customers.

Laws: no method sees an outcome of a customer it is judged on. Where the file is long enough, all that learns from
outcomes learns them at an earlier cut, one horizon before: what a firm could have known on that day. Where it is not,
it learns from other customers at the same cut (five folds by a hash of the customer id); the answer says which. The
classics need no outcomes: they look at the past before the cut, of everyone, or of the other folds.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Protocol

import numpy as np
from scipy.stats import rankdata

from segment_trainer import measures, segmenting
from segment_trainer.classics import MOST_FITTED, Classic
from segment_trainer.examples import FOLDS, Examples, Question, Rows
from segment_trainer.failures import NotPossible
from segment_trainer.measures import Figures, Interval
from segment_trainer.models import MOST_TRAINED_ON, Learnt
from segment_trainer.rules import Hiatus, Naive, RecencyFrequencyMoney
from segment_trainer.segmenting import MOST_BOOTSTRAPPED, MOST_CLUSTERED, Segmentation
from segment_trainer.sources import Say, Source
from segmentation.features import FEATURES_VERSION, FeatureTable, Numbers
from segmentation.scoring import Model

FORMAT: Final = 1
"""Of the answer; grows when a key changes its meaning or goes."""
OURS: Final = "model"
IN_FORCE: Final = "in_force"
METHODS: Final = ("naive", "hiatus", "rfm", "bg_nbd", OURS)
"""Of every comparison; the model in force comes to them where there is one."""
FEWEST_CUSTOMERS: Final = 50
_FEWEST_TO_LEARN_EARLIER: Final = 200
_LONGEST_HISTORY_NEEDED: Final = 180
_TOLD_EVERY: Final = 100
"""Resamples."""


class _Foreteller(Protocol):
    def churn(self, examples: Examples) -> Numbers: ...

    def value(self, examples: Examples) -> Numbers: ...


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one method foretells of each customer."""

    churn: Numbers
    value: Numbers


@dataclass(frozen=True, slots=True)
class Judged:
    """The forecasts of all methods on one question."""

    question: Question
    examples: Examples
    trained_at: Sequence[Question]
    """The earlier questions they learnt from, latest first; none for other customers at the same cut."""
    trained_on: int
    forecasts: Mapping[str, Forecast]
    churn: Mapping[str, Mapping[str, Interval]]
    value: Mapping[str, Mapping[str, Interval]]
    versus: Mapping[str, Mapping[str, Interval]]
    """Our model against each other method: how much smaller the errors, how much greater the agreement."""
    factor: Numbers
    """What our forecasts of value were multiplied by, that their sum be right; of each fold its own."""
    learnt: Learnt | None
    """Our model; None where each fold had one of its own."""

    def naive_wins(self) -> list[str]:
        """The measures in which a naive rule is better than our model."""
        found: list[str] = []
        for part, smaller in (("churn", _SMALLER_CHURN), ("value", _SMALLER_VALUE)):
            table = self.churn if part == "churn" else self.value
            for name, (ours, _, _) in table[OURS].items():
                for rule in ("naive", "hiatus"):
                    theirs = table[rule][name].figure
                    if ours is None or theirs is None:
                        continue
                    if name == "total_ratio":
                        ours_off, theirs_off = abs(ours - 1), abs(theirs - 1)
                        better = theirs_off < ours_off
                    else:
                        better = theirs < ours if name in smaller else theirs > ours
                    if better:
                        found.append(f"{part}.{name}:{rule}")
        return found


@dataclass(frozen=True, slots=True)
class Comparison(Judged):
    """All methods on one question, and the segments."""

    segments: Segmentation


_SMALLER_CHURN: Final = ("log_loss", "brier", "calibration_error")
_SMALLER_VALUE: Final = ("mae", "rmse")


def compare(events: Source, question: Question, say: Say, *, in_force: Model | None = None) -> Comparison:
    """Runs the whole comparison, beside the model in force where one is given.

    Raises:
        NotPossible: says what the file does hold.
    """
    judged, backwards = _judge(events, question, say, in_force, looks_back=True)
    say("segmenting ...")
    segments = segmenting.segment(judged.examples, [each for each in backwards if len(each) >= FEWEST_CUSTOMERS], say)
    parts = {each.name: getattr(judged, each.name) for each in fields(judged)}
    return Comparison(**parts, segments=segments)


def judge(events: Source, question: Question, say: Say) -> Judged:
    """The comparison without segments.

    Raises:
        NotPossible: says what the file does hold.
    """
    return _judge(events, question, say, None, looks_back=False)[0]


def _judge(
    events: Source, question: Question, say: Say, in_force: Model | None, *, looks_back: bool
) -> tuple[Judged, list[Examples]]:
    events.check(question)
    enough = min(question.horizon_days, _LONGEST_HISTORY_NEEDED)
    earlier = [each for each in question.earlier() if (each.cut - events.first_day).days >= enough]
    back = [each for each in segmenting.looks_back(question) if looks_back and each.cut > events.first_day]
    most = {**dict.fromkeys(back, MOST_CLUSTERED), **dict.fromkeys(earlier, MOST_TRAINED_ON)}
    examples, *others = events.examples([question, *earlier, *back], most=most)
    before, backwards = others[: len(earlier)], others[len(earlier) :]
    if len(examples) < FEWEST_CUSTOMERS:
        raise NotPossible(
            f"{len(examples)} customers had ordered before {question.cut}; a comparison needs {FEWEST_CUSTOMERS}"
        )
    teaching = [each for each in before if _can_teach(each)]
    ours: Learnt | None = None
    if teaching:
        learnt = Examples.together(teaching)
        say(f"training on {len(learnt):,} customers at {len(teaching)} earlier cuts ...")
        ours = Learnt.fit(learnt, say)
        factor = np.full(len(examples), ours.factor)
        forecasts = _foretell(learnt, ours, examples, classic_from=examples)
    else:
        learnt, (forecasts, factor) = examples, _out_of_fold(examples, say)
    if in_force is not None:
        scores = in_force.score(FeatureTable(question.as_of, examples.customer_ids, examples.features))
        forecasts[IN_FORCE] = Forecast(scores.churn_probability, scores.expected_value)
    say("measuring ...")
    churn, value, versus = _measured(examples, forecasts, say)
    trained_at = [each.question for each in teaching]
    judged = Judged(question, examples, trained_at, len(learnt), forecasts, churn, value, versus, factor, ours)
    return judged, backwards


def _can_teach(examples: Examples) -> bool:
    lost = int(examples.churned.sum())
    return len(examples) >= _FEWEST_TO_LEARN_EARLIER and 0 < lost < len(examples)


def _foretell(taught: Examples, ours: Learnt, asked: Examples, *, classic_from: Examples) -> dict[str, Forecast]:
    others: tuple[_Foreteller, ...] = (
        Naive.fit(taught),
        Hiatus.fit(taught),
        RecencyFrequencyMoney.fit(taught),
        Classic.fit(classic_from),
    )
    found = {
        name: Forecast(method.churn(asked), method.value(asked))
        for name, method in zip(METHODS[:-1], others, strict=True)
    }
    return {**found, OURS: Forecast(*ours.forecast(asked))}


def _out_of_fold(examples: Examples, say: Say) -> tuple[dict[str, Forecast], Numbers]:
    folds = examples.folds()
    forecasts = {name: Forecast(np.empty(len(examples)), np.empty(len(examples))) for name in METHODS}
    factor = np.ones(len(examples))
    for fold in range(FOLDS):
        say(f"training, fold {fold + 1} of {FOLDS} ...")
        asked = folds == fold
        if not asked.any():
            continue
        others = examples.at(~asked)
        ours = Learnt.fit(others, say)
        for name, found in _foretell(others, ours, examples.at(asked), classic_from=others).items():
            forecasts[name].churn[asked] = found.churn
            forecasts[name].value[asked] = found.value
        factor[asked] = ours.factor
    return forecasts, factor


Measured = dict[str, dict[str, Interval]]


def _measured(examples: Examples, forecasts: Mapping[str, Forecast], say: Say) -> tuple[Measured, Measured, Measured]:
    measured = itertools.count(1)

    def measure(rows: Rows) -> Figures:
        if not (number := next(measured)) % _TOLD_EVERY:
            say(f"measuring, {number} of {measures.RESAMPLES} resamples ...")
        churned, value = examples.churned[rows], examples.value[rows]
        churn = {name: measures.churn_figures(churned, each.churn[rows]) for name, each in forecasts.items()}
        ranks = rankdata(value)
        worth = {name: measures.value_figures(value, each.value[rows], ranks=ranks) for name, each in forecasts.items()}
        found: dict[str, float | None] = {}
        for part, table in (("churn", churn), ("value", worth)):
            for name, figures in table.items():
                found.update({f"{part}|{name}|{measure}": figure for measure, figure in figures.items()})
        for name in forecasts:
            if name == OURS:
                continue
            for key, figure in _against(churn[OURS], churn[name], worth[OURS], worth[name]).items():
                found[f"versus|{name}|{key}"] = figure
        return found

    tables: dict[str, Measured] = {"churn": {}, "value": {}, "versus": {}}
    for key, interval in measures.intervals(len(examples), measure).items():
        part, name, figure = key.split("|")
        tables[part].setdefault(name, {})[figure] = interval
    return tables["churn"], tables["value"], tables["versus"]


def _against(churn: Figures, their_churn: Figures, value: Figures, their_value: Figures) -> Figures:
    return {
        "auroc_gain": _difference(churn["auroc"], their_churn["auroc"]),
        "log_loss_reduction": _reduction(churn["log_loss"], their_churn["log_loss"]),
        "mae_reduction": _reduction(value["mae"], their_value["mae"]),
        "rmse_reduction": _reduction(value["rmse"], their_value["rmse"]),
        "spearman_gain": _difference(value["spearman"], their_value["spearman"]),
    }


def _difference(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def _reduction(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or not theirs else 1 - ours / theirs


def answer(events: Source, comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain values; every key is explained in docs/quality.md."""
    read = events.read
    return {
        "format": FORMAT,
        "features_version": FEATURES_VERSION,
        "messages": {
            "read": read.messages,
            "applied": read.applied,
            "repeated": read.repeated,
            "refused": dict(sorted(read.refused.items())),
            "unconverted": dict(sorted(read.unconverted.items())),
        },
        "first_day": events.first_day.isoformat(),
        "last_day": events.last_day.isoformat(),
        "base_currency": events.base_currency,
        **figures(comparison),
        "segments": segmenting.plain(comparison.segments, comparison.examples),
    }


def figures(judged: Judged) -> dict[str, Any]:
    """What was asked, learnt and measured, as plain values."""
    question, examples, trained = judged.question, judged.examples, judged.trained_at
    return {
        "cut": question.cut.isoformat(),
        "horizon_days": question.horizon_days,
        "customers": len(examples),
        "customers_without_orders": examples.without_orders,
        "churn_rate": float(examples.churned.mean()),
        "value_mean": float(examples.value.mean()),
        "value_median": float(np.median(examples.value)),
        "training": {
            "scheme": "earlier_cuts" if trained else "cross_validation",
            "cuts": [each.cut.isoformat() for each in trained or (question,)],
            "examples": judged.trained_on,
            "folds": None if trained else FOLDS,
        },
        "sampled": {
            "model": min(judged.trained_on, MOST_TRAINED_ON),
            "classics": min(len(examples), MOST_FITTED),
            "segments": min(len(examples), MOST_CLUSTERED),
            "stability": min(len(examples), MOST_BOOTSTRAPPED),
            "intervals": min(len(examples), measures.MOST_RESAMPLED),
        },
        "churn": _plain(judged.churn),
        "value": _plain(judged.value),
        "model_versus": _plain(judged.versus),
        "naive_wins": judged.naive_wins(),
        "without_factor": {
            "factor": float(judged.factor.mean()),
            **measures.value_figures(examples.value, judged.forecasts[OURS].value / judged.factor),
        },
        "deciles": {
            name: [each._asdict() for each in measures.deciles(examples.value, forecast.value)]
            for name, forecast in judged.forecasts.items()
        },
        "calibration": {
            name: [each._asdict() for each in measures.calibration(examples.churned, forecast.churn)]
            for name, forecast in judged.forecasts.items()
        },
    }


def _plain(table: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, dict[str, float | None]]]:
    return {
        name: {measure: interval._asdict() for measure, interval in figures.items()} for name, figures in table.items()
    }
