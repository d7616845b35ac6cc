"""Whether today's customers still look like those that a model was made from: the population stability index.

PSI = sum over bins of (now - then) * ln(now / then), the bins being tenths of then. Laws: of the same customers it is
0; a share of nothing counts as one in ten thousand, so the index is finite; only shares are kept of anybody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from segment_trainer.failures import NotPossible
from segmentation.features import FEATURES, FeatureTable, Numbers
from segmentation.scoring import Model

SOME: Final = 0.1
MUCH: Final = 0.25
"""The usual thresholds of the index."""
SCORES: Final = ("churn_probability", "expected_value")
SEGMENT: Final = "segment"
_BINS: Final = 10
_LEAST_SHARE: Final = 1e-4

Counts = npt.NDArray[np.int64]


class Drift(NamedTuple):
    """How far one feature, or one score, has moved."""

    name: str
    psi: float
    verdict: str
    """stable, some or much."""


def verdict(psi: float) -> str:
    """Of one index."""
    return "stable" if psi < SOME else "some" if psi < MUCH else "much"


@dataclass(frozen=True, slots=True)
class Reference:
    """How features and scores were spread over the customers that a model was made from."""

    edges: Mapping[str, Sequence[float]]
    shares: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, model: Model, table: FeatureTable) -> "Reference":
        edges = {
            name: np.unique(np.quantile(values, np.arange(1, _BINS) / _BINS)).tolist()
            for name, values in _columns(model, table).items()
            if name != SEGMENT
        }
        edges[SEGMENT] = [number + 0.5 for number in range(len(model.segments) - 1)]
        tally = Tally(model, edges)
        tally.count(table)
        return cls(edges, tally.shares)

    def plain(self) -> dict[str, Any]:
        """As a card holds it."""
        return {name: {"edges": list(self.edges[name]), "shares": list(self.shares[name])} for name in self.edges}

    @classmethod
    def read(cls, model: Model) -> "Reference":
        """That of a model's card.

        Raises:
            NotPossible: the card has none that can be used.
        """
        plain = model.card.get("reference")
        names = (*FEATURES, *SCORES, SEGMENT)
        try:
            edges = {name: [float(each) for each in plain[name]["edges"]] for name in names}  # type: ignore[index]
            shares = {name: [float(each) for each in plain[name]["shares"]] for name in names}  # type: ignore[index]
        except (KeyError, TypeError, ValueError):
            raise NotPossible("the card says nothing of how its customers were spread; train the model anew") from None
        if any(len(shares[name]) != len(edges[name]) + 1 for name in names):
            raise NotPossible("the card's reference is damaged: its shares do not fit its bins; train the model anew")
        return cls(edges, shares)


class Tally:
    """Counts customers into a reference's bins, part by part."""

    def __init__(self, model: Model, edges: Mapping[str, Sequence[float]]) -> None:
        self._model = model
        self._edges = {name: np.asarray(each, dtype=np.float64) for name, each in edges.items()}
        self._counts: dict[str, Counts] = {
            name: np.zeros(len(each) + 1, dtype=np.int64) for name, each in edges.items()
        }
        self.customers = 0

    def count(self, table: FeatureTable) -> None:
        """Some customers; those without an order are passed over, as the model does."""
        some = table.column("order_days") > 0
        rows = np.flatnonzero(some)
        table = FeatureTable(table.as_of, [table.customer_ids[row] for row in rows.tolist()], table.values[rows])
        self.customers += len(rows)
        for name, values in _columns(self._model, table).items():
            bins = np.searchsorted(self._edges[name], values, side="left")
            self._counts[name] += np.bincount(bins, minlength=len(self._counts[name]))

    @property
    def shares(self) -> dict[str, list[float]]:
        return {name: (counts / max(self.customers, 1)).tolist() for name, counts in self._counts.items()}


def compared(reference: Reference, tally: Tally) -> list[Drift]:
    """The scores first, then the features that moved the farthest."""
    now = tally.shares
    found = []
    for name, then in reference.shares.items():
        before = np.maximum(np.asarray(then), _LEAST_SHARE)
        after = np.maximum(np.asarray(now[name]), _LEAST_SHARE)
        psi = float(((after - before) * np.log(after / before)).sum())
        found.append(Drift(name, psi, verdict(psi)))
    return sorted(found, key=lambda each: (each.name in FEATURES, -each.psi, each.name))


def _columns(model: Model, table: FeatureTable) -> dict[str, Numbers]:
    scores = model.score(table)
    return {
        **{name: table.column(name) for name in FEATURES},
        "churn_probability": scores.churn_probability,
        "expected_value": scores.expected_value,
        SEGMENT: scores.segment.astype(np.float64),
    }
