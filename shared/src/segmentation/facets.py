"""Facets: the features that behaviour segments are made of, comparable with one another; and the nearest centroid.

Laws: a customer's point and label depend on that customer's features alone, to the last bit, not on who else is asked
about; the trainer and the live system make them here, so there is one formula of each.

A facet is one feature, bent so that a few giants do not make the distances, then centred on the median, divided by a
robust spread and bounded. What is not known of a customer counts as the median.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from segmentation.features import COLUMNS, Numbers

BOUND: Final = 3.0
"""In robust spreads; who is farther out counts as that far."""


class Facet(NamedTuple):
    """A feature that segments are made of, and the words for its two ends; None where that end is the usual."""

    feature: str
    bend: str
    known_by: str | None
    high: Mapping[str, str]
    low: Mapping[str, str] | None


FACETS: Final[Mapping[str, Facet]] = {
    "recency": Facet(
        "recency_days",
        "minus_log",
        None,
        {"code": "active", "en": "active", "zh": "活跃"},
        {"code": "silent", "en": "silent", "zh": "沉默"},
    ),
    "frequency": Facet(
        "orders_365d",
        "log",
        None,
        {"code": "frequent", "en": "frequent", "zh": "高频"},
        {"code": "infrequent", "en": "infrequent", "zh": "低频"},
    ),
    "value": Facet(
        "net_365d",
        "money",
        None,
        {"code": "high-value", "en": "high value", "zh": "高价值"},
        {"code": "low-value", "en": "low value", "zh": "低价值"},
    ),
    "order_size": Facet(
        "order_value_mean",
        "money",
        None,
        {"code": "large-orders", "en": "large orders", "zh": "大单"},
        {"code": "small-orders", "en": "small orders", "zh": "小单"},
    ),
    "returns": Facet(
        "returned_share_365d",
        "root",
        None,
        {"code": "many-returns", "en": "many returns", "zh": "退货多"},
        None,
    ),
    "complaints": Facet(
        "complaint_rate",
        "root",
        None,
        {"code": "many-complaints", "en": "many complaints", "zh": "投诉多"},
        None,
    ),
    "punctuality": Facet(
        "on_time_rate_365d",
        "plain",
        "knows_on_time",
        {"code": "served-on-time", "en": "served on time", "zh": "准时送达"},
        {"code": "served-late", "en": "served late", "zh": "晚送达"},
    ),
}
"""In the order of names."""


class Scale(Struct, frozen=True, forbid_unknown_fields=True):
    """How one facet becomes comparable with the others."""

    facet: str
    unit: float
    """Divides money before it is bent, so that the currency does not matter."""
    centre: float
    spread: float

    def __call__(self, features: Numbers) -> Numbers:
        """Per customer the bent, centred, divided and bounded feature."""
        scaled = np.clip((bent(self.facet, features, self.unit) - self.centre) / self.spread, -BOUND, BOUND)
        return np.where(known(self.facet, features), scaled, 0.0)


def known(facet: str, features: Numbers) -> npt.NDArray[np.bool_]:
    """Of whom the facet's feature is known."""
    known_by = FACETS[facet].known_by
    if known_by is None:
        return np.ones(len(features), dtype=np.bool_)
    return np.asarray(features[:, COLUMNS[known_by]] > 0, dtype=np.bool_)


def bent(facet: str, features: Numbers, unit: float) -> Numbers:
    """The facet's feature, bent."""
    values = np.ascontiguousarray(features[:, COLUMNS[FACETS[facet].feature]])
    match FACETS[facet].bend:
        case "log":
            values = np.log1p(values)
        case "minus_log":
            values = -np.log1p(values)
        case "money":
            values = np.arcsinh(values / unit)
        case "root":
            values = np.sqrt(np.clip(values, 0, 1))
        case _:
            pass
    return values


def scaled(scales: Sequence[Scale], features: Numbers) -> Numbers:
    """A row a customer, a column a facet."""
    return np.column_stack([scale(features) for scale in scales]) if scales else np.zeros((len(features), 0))


def squared_distances(points: Numbers, centroids: Numbers) -> Numbers:
    """A row a centroid, a column a point."""
    found = np.zeros((len(centroids), len(points)))
    # Column by column: a product of matrices is rounded differently in batches of another size.
    for column, positions in enumerate(np.ascontiguousarray(points.T)):
        found += (positions - centroids[:, column, None]) ** 2
    return found


def nearest(points: Numbers, centroids: Numbers) -> npt.NDArray[np.intp]:
    """Per point the row of the nearest centroid; of equally near ones the first."""
    return np.asarray(np.argmin(squared_distances(points, centroids), axis=0), dtype=np.intp)
