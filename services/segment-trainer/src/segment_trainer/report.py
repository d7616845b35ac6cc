"""An answer as a person reads it."""

from collections.abc import Mapping
from typing import Any, Final

TITLES: Final = {
    "naive": "naive rule",
    "hiatus": "hiatus rule",
    "rfm": "RFM quintiles",
    "bg_nbd": "BG/NBD + Gamma-Gamma",
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
    messages = answer["messages"]
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
        "",
        "CHURN: no order within the horizon",
        *_aligned(methods_table(answer, "churn")),
        "",
        "VALUE: net revenue within the horizon",
        *_aligned(methods_table(answer, "value")),
        "",
        *_aligned(against_table(answer)),
        "",
        "OUR MODEL BY TENTHS of what it foretold",
        *_aligned(deciles_table(answer)),
        "",
        naive_wins(answer),
        "In brackets: 95 % intervals by bootstrap over customers.",
    ]
    return "\n".join(lines)


def _aligned(rows: Cells) -> list[str]:
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
