"""Whether a model may be published: rules over its card, each with the figures that break it.

Laws: a rule looks at nothing but the card and at which model is in force, so the same card is judged in the same way
by whoever publishes it; a card that lacks a figure is refused for that, never passed over.
"""

from collections.abc import Mapping
from typing import Any, Final

from segment_trainer.evaluation import IN_FORCE, OURS
from segment_trainer.segmenting import STABLE
from segmentation.versions import Refusal

CLEARLY_WORSE: Final = 0.05
"""A share of the other's error: worse by more is refused, however wide the interval is."""
MOST_MISCALIBRATED: Final = 0.10
"""Of the calibration error, unless the naive rule's is greater: then it is the season that nobody knew."""
EVER_MISCALIBRATED: Final = 0.15
TOTALS: Final = (0.5, 2.0)
"""What was foretold of everyone together / what came."""
MOST_RENAMED: Final = 0.25
"""Of the customers, that would be called something else than by the model in force."""
_BEATS: Final = {
    "log_loss_reduction": ("worse_churn", "churn: its log-loss"),
    "mae_reduction": ("worse_value", "value: its mean absolute error"),
}


def refusals(card: Mapping[str, Any], in_force_sha256: str | None) -> list[Refusal]:
    """Every reason against publishing; none for a model that may be."""
    try:
        return _refusals(card, in_force_sha256)
    except (KeyError, TypeError, AttributeError) as error:
        return [Refusal("incomplete", f"the card lacks what it is judged by ({type(error).__name__}: {error})")]


def _refusals(card: Mapping[str, Any], in_force_sha256: str | None) -> list[Refusal]:
    found: list[Refusal] = []
    versus, beside = card["model_versus"], card["in_force"]
    if in_force_sha256 is None:
        found += _worse(versus["naive"], "the naive rule")
    elif beside is None or beside["sha256"] != in_force_sha256:
        found.append(
            Refusal(
                "not_compared",
                "it was not held against the model that is in force now; train it again with --database, or with "
                "--in-force and what `segment-trainer show N --document` prints",
            )
        )
    elif not beside["comparable"]:
        found.append(
            Refusal(
                "not_compared",
                f"the model in force foretells {beside['horizon_days']} days in {beside['base_currency']}, this one "
                f"{card['horizon_days']} in {card['data']['base_currency']}: their figures say nothing of each other",
            )
        )
    else:
        found += _worse(versus[IN_FORCE], "the model in force")
    found += _miscalibrated(card)
    lowest = card["segments"]["jaccard_lowest"]
    if lowest is not None and not lowest > STABLE:
        found.append(
            Refusal(
                "unstable",
                f"segments: the least stable one comes again with a Jaccard similarity of {lowest:.2f} in resamples; "
                f"more than {STABLE} is asked",
            )
        )
    renamed = 0.0 if beside is None else beside["renamed_share"]
    if renamed > MOST_RENAMED:
        found.append(
            Refusal(
                "renames",
                f"segments: {renamed:.0%} of the customers would be called something else than by the model in "
                f"force; at most {MOST_RENAMED:.0%} is allowed: train it with --keep-segments, or publish with --force",
            )
        )
    return found


def _worse(versus: Mapping[str, Mapping[str, float | None]], other: str) -> list[Refusal]:
    found: list[Refusal] = []
    for key, (rule, what) in _BEATS.items():
        figure, high = versus[key]["figure"], versus[key]["high"]
        if figure is None:
            continue
        if figure < -CLEARLY_WORSE or (high is not None and high < 0):
            interval = "" if high is None else f" (95 %: {-high:+.1%} to {-(versus[key]['low'] or 0):+.1%})"
            found.append(Refusal(rule, f"{what} is {-figure:+.1%} beside that of {other}{interval}"))
    return found


def _miscalibrated(card: Mapping[str, Any]) -> list[Refusal]:
    found: list[Refusal] = []
    error = card["churn"][OURS]["calibration_error"]["figure"]
    naive = card["churn"]["naive"]["calibration_error"]["figure"]
    if error > EVER_MISCALIBRATED or (error > MOST_MISCALIBRATED and error > naive):
        found.append(
            Refusal(
                "miscalibrated",
                f"churn: its probabilities are off by {error:.3f} on average (calibration error; the naive rule's by "
                f"{naive:.3f}); at most {MOST_MISCALIBRATED} is allowed, or {EVER_MISCALIBRATED} where the naive rule "
                "is off by more",
            )
        )
    ratio = card["value"][OURS]["total_ratio"]["figure"]
    low, high = TOTALS
    if ratio is not None and not low <= ratio <= high:
        found.append(
            Refusal(
                "wrong_total",
                f"value: of all customers together it foretold {ratio:.2f} of what came; {low} to {high} is allowed",
            )
        )
    return found
