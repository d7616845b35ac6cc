"""An answer as a person reads it."""

from collections.abc import Mapping
from typing import Any, Final

TITLES: Final = {
    "naive": "naive rule",
    "hiatus": "hiatus rule",
    "rfm": "RFM quintiles",
    "bg_nbd": "BG/NBD + Gamma-Gamma",
    "in_force": "the model in force",
    "model": "our model",
}
MEASURES: Final = {
    "auroc": ("AUROC", 3),
    "log_loss": ("log-loss", 3),
    "brier": ("Brier", 3),
    "calibration_error": ("calibration error", 3),
    "mae": ("MAE", 0),
    "rmse": ("RMSE", 0),
    "spearman": ("Spearman", 3),
    "total_ratio": ("foretold / actual", 2),
    "lift_top_decile": ("lift, top tenth", 2),
}
AGAINST: Final = {
    "mae_reduction": ("MAE less by", True),
    "spearman_gain": ("Spearman more by", False),
    "rmse_reduction": ("RMSE less by", True),
    "auroc_gain": ("AUROC more by", False),
    "log_loss_reduction": ("log-loss less by", True),
}

LABELS: Final = {
    "segment": "segment",
    "tier": "ABC tier",
    "tier_and_segment": "tier and segment",
    "rfm": "RFM cell",
}
VERDICTS: Final = {"chosen": "chosen", "stable": "stable", "unstable": "unstable", "too_small": "a segment is tiny"}

Cells = list[list[str]]


def measured(interval: Mapping[str, float | None], decimals: int) -> str:
    """A figure with its interval."""
    figure, low, high = interval["figure"], interval["low"], interval["high"]
    if figure is None:
        return "–"  # noqa: RUF001 - a dash
    told = f"{figure:,.{decimals}f}"
    return told if low is None or high is None else f"{told} ({low:,.{decimals}f}–{high:,.{decimals}f})"  # noqa: RUF001 - a range


def signed(interval: Mapping[str, float | None], *, percent: bool) -> str:
    """A difference with its interval."""
    figure, low, high = interval["figure"], interval["low"], interval["high"]
    if figure is None:
        return "–"  # noqa: RUF001 - a dash
    form = "{:+.1%}" if percent else "{:+.3f}"
    told = form.format(figure)
    return told if low is None or high is None else f"{told} ({form.format(low)} to {form.format(high)})"


def methods_table(answer: Mapping[str, Any], part: str) -> Cells:
    """Methods by measures."""
    names = list(answer[part]["model"])
    rows = [["", *(MEASURES[name][0] for name in names)]]
    for method, figures in answer[part].items():
        rows.append([TITLES[method], *(measured(figures[name], MEASURES[name][1]) for name in names)])
    return rows


def against_table(answer: Mapping[str, Any]) -> Cells:
    """Our model against the others."""
    rows = [["our model against", *(title for title, _ in AGAINST.values())]]
    for method, figures in answer["model_versus"].items():
        told = (signed(figures[name], percent=percent) for name, (_, percent) in AGAINST.items())
        rows.append([TITLES[method], *told])
    return rows


def deciles_table(answer: Mapping[str, Any], method: str = "model") -> Cells:
    """Tenths of the customers by what was foretold."""
    rows = [["tenth", "customers", "foretold mean", "actual mean", "actual total"]]
    for number, each in enumerate(answer["deciles"][method], start=1):
        means = (f"{each[name]:,.0f}" for name in ("foretold_mean", "actual_mean", "actual_total"))
        rows.append([str(number), f"{each['customers']:,}", *means])
    return rows


def candidates_table(segments: Mapping[str, Any]) -> Cells:
    """Numbers of segments, and what speaks for each."""
    rows = [["segments", "Jaccard, mean", "lowest", "smallest segment", "foretells", "verdict"]]
    for each in segments["candidates"]:
        figures = (shown(each[name], ".2f") for name in ("jaccard_mean", "jaccard_lowest"))
        share, foretells = shown(each["smallest_share"], ".1%"), shown(each["foretells"], ".3f")
        rows.append([str(each["segments"]), *figures, share, foretells, VERDICTS[each["verdict"]]])
    return rows


def profiles_table(segments: Mapping[str, Any]) -> Cells:
    """Segments with what they are and what they did in the horizon."""
    head = ["segment", "", "customers", "share", "Jaccard", "stays a month"]
    rows = [[*head, "churn", "lift", "mean value", "lift", "share of value"]]
    rows += [
        [
            each["names"]["en"],
            each["names"]["zh"],
            f"{each['customers']:,}",
            shown(each["share"], ".0%"),
            shown(each["jaccard"], ".2f"),
            shown(each["stayed_a_month"], ".0%"),
            shown(each["churn_rate"], ".1%"),
            shown(each["churn_lift"], ".2f"),
            shown(each["value_mean"], ",.0f"),
            shown(each["value_lift"], ".2f"),
            shown(each["value_share"], ".0%"),
        ]
        for each in segments["profiles"]
    ]
    return rows


def explains_table(segments: Mapping[str, Any]) -> Cells:
    """What a label alone says of the horizon."""
    rows = [["a label alone", "groups", "churn, AUROC", "of churn", "of value", "of the ranks of value"]]
    for name, each in segments["explains"].items():
        shares = (shown(each[key], ".1%") for key in ("churn_explained", "value_explained", "value_ranks_explained"))
        rows.append([LABELS[name], str(each["groups"]), shown(each["churn_auroc"], ".3f"), *shares])
    return rows


def segment_verdict(segments: Mapping[str, Any]) -> str:
    """How many segments there are and how far they are to be trusted, in sentences."""
    if segments["verdict"] == "one_segment":
        return (
            "There is one segment: no number of segments from 2 on comes again in resamples without a tiny one, "
            "so these customers are not divided."
        )
    stable = "highly stable, all above 0.85" if segments["verdict"] == "highly_stable" else "stable, all above 0.75"
    jaccard = f"Jaccard {segments['jaccard_mean']:.2f} in the mean, {segments['jaccard_lowest']:.2f} at the lowest"
    said = [f"{segments['number']} segments, {stable}: {jaccard}."]
    moved = segments["moved_in_a_month"]
    if moved["share"] is not None:
        said.append(f"In the month before, {moved['share']:.1%} of {moved['customers']:,} customers moved.")
    said += [
        f"Made from {each['cut']} instead, {each['kept_by_matching']:.1%} of the customers keep their label "
        f"by matching, {each['kept_by_name']:.1%} by its name."
        for each in segments["refits"]
    ]
    return " ".join(said)


def shown(figure: float | None, form: str) -> str:
    """A figure, or a dash."""
    return "–" if figure is None else format(figure, form)  # noqa: RUF001 - a dash


def training(answer: Mapping[str, Any]) -> str:
    """How was trained, in a sentence."""
    how = answer["training"]
    if how["scheme"] == "earlier_cuts":
        return (
            f"Trained out of time: at the earlier cuts {', '.join(how['cuts'])}, on {how['examples']:,} examples whose "
            f"{answer['horizon_days']} days were over at the cut."
        )
    return (
        f"Trained at the same cut on other customers ({how['folds']} folds by a hash of the customer id), because the "
        "events before the cut are too few or too short for an earlier one. It is no proof over time."
    )


def samples(answer: Mapping[str, Any]) -> str:
    """How many was fitted and resampled on, in a sentence."""
    sampled = answer["sampled"]
    return (
        f"Fitted on {sampled['model']:,} examples (our model), {sampled['classics']:,} customers (BG/NBD and "
        f"Gamma-Gamma) and {sampled['segments']:,} (segments), resampled {sampled['intervals']:,} at a time; where "
        "there are more, these are a sample by a hash of the customer id. Everyone is foretold and measured."
    )


def naive_wins(answer: Mapping[str, Any]) -> str:
    """Where a naive rule is better, in a sentence."""
    wins = []
    for each in answer["naive_wins"]:
        place, rule = each.split(":")
        part, name = place.split(".")
        wins.append(f"{part}: {MEASURES[name][0]} ({TITLES[rule]})")
    return f"A naive rule is better than our model in: {'; '.join(wins)}." if wins else "No naive rule wins anywhere."


def text(answer: Mapping[str, Any]) -> str:
    """The whole answer."""
    messages, segments = answer["messages"], answer["segments"]
    refused = ", ".join(f"{number:,} {reason}" for reason, number in messages["refused"].items())
    counted = (
        f"{messages['read']:,} messages read: {messages['applied']:,} applied, {messages['repeated']:,} repeated, "
        f"{sum(messages['refused'].values()):,} refused{f' ({refused})' if refused else ''}; "
        f"{answer['first_day']} to {answer['last_day']}, money in {answer['base_currency']}"
    )
    lines = [counted]
    if messages["unconverted"]:
        told = ", ".join(f"{number:,} in {currency}" for currency, number in messages["unconverted"].items())
        lines.append(f"Without a rate, so not counted: {told}. Give rates with --rates FILE.")
    asked = (
        f"Cut {answer['cut']}, {answer['horizon_days']} days: {answer['customers']:,} customers had ordered before "
        f"({answer['customers_without_orders']:,} more are known and had not), {answer['churn_rate']:.1%} did not "
        f"order again, mean value {answer['value_mean']:,.2f}, median {answer['value_median']:,.2f}"
    )
    lines += [
        asked,
        training(answer),
        samples(answer),
        "",
        "CHURN: no order within the horizon",
        *columns(methods_table(answer, "churn")),
        "",
        "VALUE: net revenue within the horizon",
        *columns(methods_table(answer, "value")),
        "",
        *columns(against_table(answer)),
        "",
        "OUR MODEL BY TENTHS of what it foretold",
        *columns(deciles_table(answer)),
        "",
        naive_wins(answer),
        "",
        "SEGMENTS of like behaviour",
        segment_verdict(segments),
        *columns(candidates_table(segments)),
        "",
        *columns(profiles_table(segments)),
        "",
        *columns(explains_table(segments)),
        "",
        "In brackets: 95 % intervals by bootstrap over customers.",
    ]
    return "\n".join(lines)


def columns(rows: Cells) -> list[str]:
    """The rows as a table of spaces."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def markdown(rows: Cells) -> list[str]:
    """The rows as a table of Markdown."""
    head, *body = rows
    lines = [head, ["---", *("---:" for _ in head[1:])], *body]
    return [f"| {' | '.join(row)} |" for row in lines]
