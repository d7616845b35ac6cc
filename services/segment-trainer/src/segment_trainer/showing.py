"""Models, cards and drift as a person reads them."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

from segment_trainer import drift as drifting
from segment_trainer import report
from segment_trainer.drift import Drift
from segmentation.features import FEATURES
from segmentation.scoring import Model
from segmentation.versions import ModelActivation, ModelVersion

_FIGURES: Final = {
    "churn": ("auroc", "log_loss", "calibration_error"),
    "value": ("mae", "spearman", "total_ratio"),
}
_VERDICTS: Final = {"stable": "as then", "some": "moved somewhat", "much": "moved much"}
_SHOWN_FEATURES: Final = 15


def version(found: ModelVersion) -> dict[str, Any]:
    """A version without its card, as JSON shows it."""
    return {
        "version": found.version,
        "in_force": found.in_force,
        "author": found.author,
        "note": found.note,
        "created_at": found.created_at.isoformat(timespec="seconds"),
        "refusals": [each._asdict() for each in found.refusals],
        "forced_because": found.forced_because,
    }


def activation(found: ModelActivation) -> dict[str, Any]:
    """As JSON shows it."""
    return {
        "version": found.version,
        "kind": found.kind,
        "author": found.author,
        "reason": found.reason,
        "activated_at": found.activated_at.isoformat(timespec="seconds"),
        "replaced_version": found.replaced_version,
    }


def listing(versions: Sequence[ModelVersion], activations: Sequence[ModelActivation]) -> list[str]:
    """Every version, then when which was put in force."""
    if not versions:
        return ["No model was published yet; the rules decide. `segment-trainer train --help` says how to begin."]
    rows = [
        ["version", "", "published", "by", "cut", "log-loss", "MAE", "note"],
        *(
            [
                str(each.version),
                "in force" if each.in_force else "",
                f"{each.created_at:%Y-%m-%d %H:%M}",
                each.author,
                str(each.card.get("cut", "")),
                _figure(each.card, "churn", "log_loss"),
                _figure(each.card, "value", "mae"),
                (each.note or "") + (f" (forced: {each.forced_because})" if each.forced_because else ""),
            ]
            for each in versions
        ),
    ]
    lines = report.columns(rows)
    if not any(each.in_force for each in versions):
        lines.append("No model is in force: the rules decide.")
    lines += ["", "Put in force, newest first:" if activations else "None was ever put in force."]
    for step in activations:
        what = "no model" if step.version is None else f"model {step.version}"
        before = "" if step.replaced_version is None else f" in place of {step.replaced_version}"
        back = ", rolled back" if step.kind == "rollback" else ""
        lines.append(f"  {step.activated_at:%Y-%m-%d %H:%M}  {what}{before}{back}, by {step.author}: {step.reason}")
    return lines


def heading(told: Mapping[str, Any]) -> list[str]:
    """Whose version it is, and what was overruled for it."""
    state = "in force" if told["in_force"] else "not in force"
    lines = [f"Model {told['version']}, {state}; published {told['created_at']} by {told['author']}."]
    if told["note"]:
        lines.append(told["note"])
    if told["refusals"]:
        lines.append(f"Published by force ({told['forced_because']}), over:")
        lines += [f"  {each['rule']}: {each['sentence']}" for each in told["refusals"]]
    return [*lines, ""]


def card(found: Mapping[str, Any]) -> list[str]:
    """What a model was made from and how good it is."""
    try:
        return _card(found)
    except (KeyError, TypeError, ValueError) as error:
        return [f"The card cannot be shown ({type(error).__name__}: {error}); --json shows it as it is."]


def _card(found: Mapping[str, Any]) -> list[str]:
    data, training, segments = found["data"], found["training"], found["segments"]
    out_of_time = training["scheme"] == "earlier_cuts"
    made = (
        f"Made {found['trained_at']} from {data['source']}, {data['first_day']} to {data['last_day']}, "
        f"in {data['base_currency']}."
    )
    measured = (
        f"Measured at {found['cut']} over {found['horizon_days']} days, on {found['customers']:,} customers, of whom "
        f"{found['churn_rate']:.1%} did not order again."
    )
    lines = [
        made,
        measured,
        f"Learnt from {training['examples']:,} examples at {', '.join(training['cuts'])}: "
        + (
            "the parameters are those that were measured, on days that they had not seen."
            if out_of_time
            else "too short a past for an earlier cut, so the figures are out of fold and no proof over time."
        ),
        "",
    ]
    names = [name for name in ("naive", "bg_nbd", "in_force", "model") if name in found["churn"]]
    rows = [["", *(report.MEASURES[key][0] for keys in _FIGURES.values() for key in keys)]]
    for name in names:
        cells = [
            report.measured(found[part][name][key], report.MEASURES[key][1])
            for part, keys in _FIGURES.items()
            for key in keys
        ]
        rows.append([report.TITLES[name], *cells])
    lines += report.columns(rows)
    lines += ["", *_other_cuts(found["other_cuts"])]
    jaccard = segments["jaccard_lowest"]
    stable = "" if jaccard is None else f", the least stable with a Jaccard similarity of {jaccard:.2f}"
    lines.append(f"{segments['number']} segments{stable}:")
    lines += [
        f"  {each['names']['en']} / {each['names']['zh']}: {each['share']:.0%} of the customers"
        for each in segments["profiles"]
    ]
    beside = found["in_force"]
    if beside is not None:
        lines.append(
            f"{beside['renamed_share']:.1%} of the customers are called something else than by the model in force."
        )
    return lines


def _other_cuts(cuts: Sequence[Mapping[str, Any]]) -> list[str]:
    if not cuts:
        return []
    rows = [
        ["made and measured in the same way at", "log-loss", "BG/NBD", "MAE", "BG/NBD"],
        *(
            [
                each["cut"],
                *(
                    report.measured(each[part][name][key], report.MEASURES[key][1])
                    for part, key in (("churn", "log_loss"), ("value", "mae"))
                    for name in ("model", "bg_nbd")
                ),
            ]
            for each in cuts
        ),
    ]
    return [*report.columns(rows), ""]


def drift(found: Sequence[Drift], model: Model, *, as_of: date, customers: int) -> list[str]:
    """Scores, and the features that moved the farthest."""
    scores = [each for each in found if each.name not in FEATURES]
    moved = [each for each in found if each.name in FEATURES]
    rows = [["", "PSI", ""], *([each.name, f"{each.psi:.3f}", _VERDICTS[each.verdict]] for each in scores)]
    rows += [[each.name, f"{each.psi:.3f}", _VERDICTS[each.verdict]] for each in moved[:_SHOWN_FEATURES]]
    much = [each.name for each in found if each.verdict == "much"]
    left = len(moved) - _SHOWN_FEATURES
    about = (
        f"Model {model.version}, made from customers of {model.card.get('cut', 'an unknown day')}, beside the "
        f"{customers:,} customers of {as_of}:"
    )
    lines = [
        about,
        *report.columns(rows),
        f"({left} more features moved less; --json shows all.)" if left > 0 else "",
        f"PSI below {drifting.SOME} is no shift, below {drifting.MUCH} a moderate one, above it a large one.",
    ]
    score_moved = [name for name in much if name not in FEATURES]
    if score_moved:
        lines.append(f"What it says of customers has moved much ({', '.join(score_moved)}): train a new model.")
    elif much:
        lines.append(
            f"{len(much)} features have moved much and the scores have not: look why, and train anew if it lasts."
        )
    else:
        lines.append("Nothing has moved much: the model still fits its customers.")
    return lines


def _figure(found: Mapping[str, Any], part: str, key: str) -> str:
    try:
        return report.measured({**found[part]["model"][key], "low": None, "high": None}, report.MEASURES[key][1])
    except (KeyError, TypeError, ValueError):
        return ""
