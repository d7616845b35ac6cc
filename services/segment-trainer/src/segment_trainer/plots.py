"""The plots of docs/quality.md, as small SVG files that are the same for the same figures."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segment_trainer.measures import CalibrationBin
from segmentation.features import Numbers

_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "tierline",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.3,
}
_COLOURS: Final = ("#888888", "#c2a878", "#7a9e7e", "#4c72b0", "#c44e52")


@contextmanager
def _figure(path: Path, *, width: float = 6.0, height: float = 4.2) -> Iterator[Axes]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure.add_subplot()
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    # matplotlib leaves blanks at the ends of lines
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def pareto(path: Path, customers: Numbers, revenue: Numbers, marks: Sequence[tuple[str, float, float]]) -> None:
    """Shares of the customers, best first, against shares of the revenue; the tiers' ends are marked."""
    with _figure(path) as axes:
        axes.plot(customers, revenue, color=_COLOURS[-1])
        for name, share, reached in marks:
            axes.plot(share, reached, "o", color="black")
            axes.annotate(name, (share, reached), textcoords="offset points", xytext=(8, -12))
        axes.set(
            xlabel="share of the customers with revenue", ylabel="share of net revenue", xlim=(0, 1), ylim=(0, 1.02)
        )


def migration(path: Path, names: Sequence[str], counts: npt.NDArray[np.int64], labels: tuple[str, str]) -> None:
    """Customers by their tier before (rows) and after (columns)."""
    with _figure(path, width=5.0) as axes:
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row in range(len(names)):
            for column in range(len(names)):
                shade = "white" if shares[row, column] > 0.6 else "black"  # noqa: PLR2004 - legible
                axes.text(
                    column,
                    row,
                    f"{counts[row, column]:,}\n{shares[row, column]:.0%}",
                    ha="center",
                    va="center",
                    color=shade,
                )
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
        axes.grid(visible=False)
        axes.set(ylabel=labels[0], xlabel=labels[1])


def calibration(path: Path, bins: Mapping[str, Sequence[CalibrationBin]]) -> None:
    """Foretold against actual churn."""
    with _figure(path) as axes:
        axes.plot([0, 1], [0, 1], linestyle=":", color="black")
        for colour, (name, each) in zip(_COLOURS[-len(bins) :], bins.items(), strict=True):
            axes.plot([one.foretold for one in each], [one.actual for one in each], "o-", color=colour, label=name)
        axes.set(xlabel="foretold probability of churn", ylabel="share that churned", xlim=(0, 1), ylim=(0, 1))
        axes.legend()


def lift(path: Path, value: Numbers, forecasts: Mapping[str, Numbers]) -> None:
    """The share of the revenue that the best customers by each forecast brought."""
    shares = np.linspace(0, 1, 101)
    with _figure(path) as axes:
        for colour, (name, foretold) in zip(_COLOURS[-len(forecasts) :], forecasts.items(), strict=True):
            gained = np.cumsum(np.append(0, value[np.argsort(-foretold, kind="stable")])) / value.sum()
            axes.plot(shares, np.interp(shares, np.linspace(0, 1, len(gained)), gained), color=colour, label=name)
        axes.plot([0, 1], [0, 1], linestyle=":", color="black")
        axes.set(xlabel="share of the customers, by forecast", ylabel="share of what they brought", xlim=(0, 1))
        axes.legend(loc="lower right")


def profiles(path: Path, names: Sequence[str], facets: Sequence[str], deviations: Numbers) -> None:
    """Segments (rows) by facets: how far each lies from the mean of all customers, in standard deviations."""
    with _figure(path, width=7.0, height=1.2 + 0.5 * len(names)) as axes:
        bound = max(float(np.abs(deviations).max(initial=0)), 1.0)
        axes.imshow(deviations, cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto")
        for row, column in np.ndindex(deviations.shape):
            deviation = deviations[row, column]
            shade = "white" if abs(deviation) > 0.6 * bound else "black"
            axes.text(column, row, f"{deviation:+.1f}", ha="center", va="center", color=shade)
        axes.set_xticks(range(len(facets)), facets)
        axes.set_yticks(range(len(names)), names)
        axes.grid(visible=False)
