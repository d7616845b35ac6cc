"""docs/quality.md: how good the tiers' concentration and the models' forecasts are on the bundled data, with plots.

Law: every figure in the document is computed here, from the file; the same file gives the same document.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from segment_trainer import evaluation, measures, plots, report
from segment_trainer.evaluation import METHODS, Comparison
from segment_trainer.examples import Question
from segment_trainer.reading import EventFile
from segmentation import tiering
from segmentation.fields import CustomerId
from segmentation.metrics import column, roll
from segmentation.tiering import TIERS, Ranking, TierRules

HEADLINE: Final = Question(date(2010, 12, 1), 365)
ROLLING: Final = (
    Question(date(2011, 3, 1), 90),
    Question(date(2011, 6, 1), 90),
    Question(date(2011, 9, 1), 90),
    Question(date(2011, 6, 1), 180),
)
_SHOWN: Final = ("naive", "bg_nbd", "model")
_POINTS: Final = 200
_PLACE: Final = "<!-- figures -->"
_WINDOW: Final = "365d"
_GOALS: Final = {"mae_reduction": 0.10, "spearman_gain": 0.02}


def write(events: EventFile, docs: Path, say: Callable[[str], None]) -> None:
    """Writes quality.md and the plots below quality/."""
    folder = docs / "quality"
    folder.mkdir(parents=True, exist_ok=True)
    say(f"{HEADLINE.cut}, {HEADLINE.horizon_days} days ...")
    headline = evaluation.compare(events, HEADLINE, say)
    rolling = []
    for question in ROLLING:
        say(f"{question.cut}, {question.horizon_days} days ...")
        rolling.append(evaluation.compare(events, question, say))
    tiers = _tiers(events, folder)
    plots.calibration(
        folder / "calibration.svg",
        {
            report.TITLES[name]: measures.calibration(headline.examples.churned, headline.forecasts[name].churn)
            for name in _SHOWN
        },
    )
    plots.lift(
        folder / "lift.svg",
        headline.examples.value,
        {report.TITLES[name]: headline.forecasts[name].value for name in _SHOWN},
    )
    told = evaluation.answer(events, headline)
    others = [evaluation.answer(events, comparison) for comparison in rolling]
    figures = "\n".join(
        [*_headline(told, headline), *_rolling(others), *tiers, *_segments(told, others, folder)]
    ).strip()
    frame = files(__package__).joinpath("quality_frame.md").read_text(encoding="utf-8")
    (docs / "quality.md").write_text(frame.replace(_PLACE, figures), encoding="utf-8")
    say(f"{docs / 'quality.md'} is written.")


def _headline(told: Mapping[str, Any], headline: Comparison) -> list[str]:
    against = told["model_versus"]["bg_nbd"]
    reached = all((against[name]["figure"] or 0) >= goal for name, goal in _GOALS.items())
    about = (
        f"Cut {told['cut']}: features end the day before, the outcome is what came in the {told['horizon_days']} days\n"
        f"from it on. {told['customers']:,} customers had ordered before ({told['customers_without_orders']} more are\n"
        f"known, had not, and are left out). {told['churn_rate']:.1%} of them did not order again; on average they\n"
        f"brought {told['value_mean']:,.0f} {told['base_currency']}, the median brought {told['value_median']:,.0f}.\n"
        f"{report.training(told)}"
    )
    outcome = (
        "The goal, one model that beats BG/NBD + Gamma-Gamma by 10 % of its MAE and by 0.02 of Spearman, is "
        f"{'reached' if reached else 'not reached'}.\n{report.naive_wins(told)}\n{_factor(told)}\n"
        "The factor makes the sum right, not each tenth: small customers are foretold too little, large ones too\n"
        "much, and in RMSE, where a few large customers decide, the classics may be better."
    )
    published = (
        "Published for this year (aayancheng/Marketing-Analytics, m02_clv) are BG/NBD + Gamma-Gamma MAE 1,426,\n"
        "Spearman 0.630, and gradient boosting 1,228 and 0.600: on 563 held-out customers with two invoices or more,\n"
        "gross revenue, and a target to the end of the file. Not the same split, so no more than an anchor; ours, on\n"
        "the customers with two order days or more:"
    )
    return [
        "## Twelve months of value, and churn",
        "",
        about,
        "",
        *report.markdown(report.methods_table(told, "value")),
        "",
        *report.markdown(report.against_table(told)),
        "",
        outcome,
        "",
        *report.markdown(report.methods_table(told, "churn")),
        "",
        "![calibration](quality/calibration.svg)",
        "![lift](quality/lift.svg)",
        "",
        "Our model by tenths of the customers, the highest forecasts first:",
        "",
        *report.markdown(report.deciles_table(told)),
        "",
        "### Beside published figures",
        "",
        published,
        "",
        *report.markdown(_repeaters(headline)),
        "",
    ]


def _factor(told: Mapping[str, Any]) -> str:
    """What making the sum right does."""
    without, with_it = told["without_factor"], told["value"]["model"]
    cost = with_it["mae"]["figure"] / without["mae"] - 1
    return (
        "Summed up, what is nearest for each customer is too low; so forecasts are multiplied by one factor, found\n"
        f"on training customers out of fold ({without['factor']:.2f} here). It brings *foretold / actual* from "
        f"{without['total_ratio']:.2f} to\n{with_it['total_ratio']['figure']:.2f}, and the MAE from "
        f"{without['mae']:,.0f} to {with_it['mae']['figure']:,.0f} ({cost:+.1%})."
    )


def _repeaters(headline: Comparison) -> report.Cells:
    several = headline.examples.column("order_days") > 1
    rows = [[f"{int(several.sum()):,} customers", "MAE", "Spearman"]]
    for name in METHODS:
        figures = measures.value_figures(headline.examples.value[several], headline.forecasts[name].value[several])
        rows.append([report.TITLES[name], f"{figures['mae']:,.0f}", f"{figures['spearman']:.3f}"])
    return rows


def _rolling(others: Sequence[Mapping[str, Any]]) -> list[str]:
    names = ("auroc", "log_loss", "calibration_error", "mae", "spearman", "total_ratio", "lift_top_decile")
    rows = [["cut, days", "", *(report.MEASURES[name][0] for name in names)]]
    for told in others:
        for number, method in enumerate(METHODS):
            figures = {**told["churn"][method], **told["value"][method]}
            cells = [report.measured(figures[name], report.MEASURES[name][1]) for name in names]
            place = f"{told['cut']}, {told['horizon_days']}" if number == 0 else ""
            rows.append([place, report.TITLES[method], *cells])
    about = (
        "What learns from outcomes learns them at up to four earlier cuts, a quarter apart, all of them over at the\n"
        "cut: what a firm could have known on that day. Lift is of value. This is the harder test: the\n"
        "trade of this firm doubles in autumn, and two years hold few seasons: then all methods foretell too little.\n"
        "Without the factor that makes the sum right, the MAE of our model would be, and foretold / actual:"
    )
    factors = [["cut, days", "factor", "MAE without it", "with it", "foretold / actual without it", "with it"]]
    for told in others:
        without, ours = told["without_factor"], told["value"]["model"]
        factors.append(
            [
                f"{told['cut']}, {told['horizon_days']}",
                f"{without['factor']:.2f}",
                f"{without['mae']:,.0f}",
                f"{ours['mae']['figure']:,.0f}",
                f"{without['total_ratio']:.2f}",
                f"{ours['total_ratio']['figure']:.2f}",
            ]
        )
    lines = ["## Out of time, on several cuts", "", about, "", *report.markdown(factors), ""]
    lines += ["All methods:", "", *report.markdown(rows), ""]
    for told in others:
        against = told["model_versus"]["bg_nbd"]
        gain = "; ".join(
            f"{name} {report.signed(against[key], percent=percent)}" for key, (name, percent) in report.AGAINST.items()
        )
        lines.append(f"- **{told['cut']}, {told['horizon_days']} days.** Against BG/NBD + Gamma-Gamma: {gain}.")
        lines.append(f"  {report.naive_wins(told)}")
    return [*lines, ""]


def _tiers(events: EventFile, folder: Path) -> list[str]:
    after_day = events.last_day
    before_day = after_day - timedelta(days=365)
    before, after = _net_revenue(events, before_day), _net_revenue(events, after_day)
    ids = sorted(after)
    first, last = _ranked(ids, before), _ranked(ids, after)
    counts = np.zeros((len(TIERS), len(TIERS)), dtype=np.int64)
    known = np.array([each in before for each in ids])
    np.add.at(counts, (first.tiers[known], last.tiers[known]), 1)
    plots.migration(
        folder / "migration.svg",
        [str(tier) for tier in TIERS],
        counts,
        (f"tier on {before_day}", f"tier on {after_day}"),
    )
    customers, revenue = _curve(last)
    ranked = len(last.sums)
    marks = [
        (f"{name}: {number:,} customers", number / ranked, last.reached(number) / last.total)
        for name, number in (("A", last.last_a), ("A and B", last.last_b))
    ]
    plots.pareto(folder / "pareto.svg", customers, revenue, marks)
    stayed = int(np.trace(counts)) / max(int(counts.sum()), 1)
    held = {tier: int((last.tiers == rank).sum()) for rank, tier in enumerate(TIERS)}
    of_a = counts[0] / max(int(counts[0].sum()), 1)
    told = ", ".join(f"{number:,} {tier}" for tier, number in held.items())
    held_now = (
        f"On {after_day}, by net revenue of 365 days: {told}.\n"
        f"{marks[0][1]:.0%} of the customers with revenue bring {marks[0][2]:.0%} of it."
    )
    moved = (
        f"A year apart, {stayed:.0%} of the {int(counts.sum()):,} customers known on {before_day} have the\n"
        f"computed tier that they had. Of those in A, {of_a[0]:.0%} stayed and {of_a[-1]:.0%} are unrated."
    )
    return [
        "## Tiers",
        "",
        held_now,
        "",
        "![Pareto curve](quality/pareto.svg)",
        "",
        moved,
        "",
        "![tier migration](quality/migration.svg)",
        "",
    ]


def _segments(told: Mapping[str, Any], others: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    segments = told["segments"]
    facets = [each["facet"] for each in segments["model"]["facets"]]
    by_facet = [{trait["facet"]: trait["deviation"] for trait in each["traits"]} for each in segments["profiles"]]
    plots.profiles(
        folder / "profiles.svg",
        [each["names"]["en"] for each in segments["profiles"]],
        [each.replace("_", " ") for each in facets],
        np.array([[each.get(facet, 0.0) for facet in facets] for each in by_facet]).reshape(len(by_facet), len(facets)),
    )
    rows = [["cut", "segments", "Jaccard, lowest", "moved in a month", "kept, a quarter's refit", "names"]]
    for each in (told, *others):
        found = each["segments"]
        moved = found["moved_in_a_month"]["share"]
        kept = found["refits"][-1]["kept_by_matching"] if found["refits"] else None
        rows.append(
            [
                each["cut"],
                str(found["number"]),
                report.shown(found["jaccard_lowest"], ".2f"),
                report.shown(moved, ".1%"),
                report.shown(kept, ".1%"),
                "; ".join(profile["names"]["en"] for profile in found["profiles"]),
            ]
        )
    seen = {each["cut"]: row for each, row in zip((told, *others), rows[1:], strict=True)}
    explains = segments["explains"]
    alone, tier, both, rfm = (explains[name]["churn_auroc"] for name in ("segment", "tier", "tier_and_segment", "rfm"))
    about = (
        f"Cut {told['cut']}. {report.segment_verdict(segments)}\n"
        "The deviations of the centroids from the mean of all customers, in standard deviations:"
    )
    worth = (
        "Churn and value are of the horizon, which the segments have not seen; a lift is a segment's mean divided by\n"
        "that of all. What a label alone says of the horizon, out of fold, as shares of the variance:"
    )
    beside = (
        f"Of churn, a segment says {'more' if alone > tier else 'less'} than the tier does ({alone:.3f} against "
        f"{tier:.3f}), and\nboth together {'more' if both > tier else 'no more'} than the tier ({both:.3f}). "
        f"The {explains['rfm']['groups']} cells of RFM say {'more' if rfm > both else 'less'} than both ({rfm:.3f})."
    )
    return [
        "## Segments",
        "",
        about,
        "",
        "![segment profiles](quality/profiles.svg)",
        "",
        *report.markdown(report.profiles_table(segments)),
        "",
        worth,
        "",
        *report.markdown(report.explains_table(segments)),
        "",
        beside,
        "",
        "How the number was chosen:",
        "",
        *report.markdown(report.candidates_table(segments)),
        "",
        "On several cuts, each with a choice of its own:",
        "",
        *report.markdown([rows[0], *seen.values()]),
        "",
    ]


def _net_revenue(events: EventFile, as_of: date) -> dict[CustomerId, int]:
    found: dict[CustomerId, int] = {}
    for table in events.tables(as_of):
        net = roll(table, as_of).windows[_WINDOW]["net_revenue"]
        found.update(zip(table.customer_ids, (int(each) for each in net), strict=True))
    return found


def _ranked(ids: Sequence[CustomerId], net: Mapping[CustomerId, int]) -> Ranking:
    return tiering.rank(column([net.get(each, 0) for each in ids]), ids, TierRules())


def _curve(ranking: Ranking) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    ranked = len(ranking.sums)
    places = np.unique(np.linspace(0, ranked, _POINTS).astype(np.int64))
    reached = np.array([ranking.reached(int(place)) for place in places]) / max(ranking.total, 1)
    return places / max(ranked, 1), reached
