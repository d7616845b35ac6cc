"""Models that nobody trained: documents of chance, and features to score by them."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
from msgspec import structs

from segmentation.facets import FACETS, Scale
from segmentation.features import COLUMNS, FEATURES, FeatureTable
from segmentation.fields import CustomerId
from segmentation.forests import Forest, Tree
from segmentation.scoring import Churn, Document, Linear, SegmentPart, SegmentsPart, Value
from segmentation.silences import Silence

FIRST_DAY = date(2024, 1, 1)
AS_OF = date(2026, 6, 30)


def a_tree(chance: np.random.Generator, edges: list[list[float]], leaves: int) -> Tree:
    """So many leaves, split at random; features without an edge are not split by."""
    feature, last_left, left, right, value = [-1], [0], [0], [0], [float(chance.normal())]
    splittable = [column for column, each in enumerate(edges) if each]
    for _ in range(leaves - 1):
        node = int(chance.choice([place for place, each in enumerate(feature) if each == -1]))
        feature[node] = int(chance.choice(splittable))
        last_left[node] = int(chance.integers(0, len(edges[feature[node]])))
        left[node], right[node] = len(feature), len(feature) + 1
        for _child in range(2):
            feature.append(-1)
            last_left.append(0)
            left.append(0)
            right.append(0)
            value.append(float(chance.normal()))
    return Tree(feature=feature, bin=last_left, left=left, right=right, value=value)


def a_forest(chance: np.random.Generator, edges: list[list[float]], trees: int = 5) -> Forest:
    return Forest(
        start=float(chance.normal()), trees=[a_tree(chance, edges, int(chance.integers(1, 9))) for _ in range(trees)]
    )


def a_document(seed: int = 1, *, trees: int = 5, segments: int = 3, **changes: Any) -> Document:
    """Of every second seed with a silence."""
    chance = np.random.default_rng(seed)
    silence = Silence(r=0.24, alpha=4.4, a=0.8, b=2.4) if seed % 2 else None
    number = len(FEATURES) + (2 if silence else 0)
    edges = [
        np.unique(np.round(chance.exponential(50, int(chance.integers(0, 20))), 2)).tolist() for _ in range(number)
    ]
    facets = [
        Scale(facet, 100.0, float(chance.normal()), float(chance.uniform(0.5, 2)))
        for facet in list(FACETS)[: int(chance.integers(0, len(FACETS) + 1))]
    ]
    document = Document(
        features=list(FEATURES),
        horizon_days=90,
        base_currency="CNY",
        first_day=FIRST_DAY,
        bins=edges,
        churn=Churn(
            linear=Linear(
                centre=chance.normal(size=number).tolist(),
                spread=chance.uniform(0.5, 3, number).tolist(),
                coefficients=(chance.normal(size=number) / 10).tolist(),
                intercept=0.1,
            ),
            trees=a_forest(chance, edges, trees),
            slope=0.8,
            intercept=-0.2,
        ),
        value=Value(floor=50.0, factor=1.3, median=a_forest(chance, edges, trees), root=a_forest(chance, edges, trees)),
        segments=SegmentsPart(
            facets=facets,
            segments=[
                SegmentPart(
                    f"kind-{each}",
                    {"en": f"kind {each}", "zh": f"第 {each} 类"},
                    chance.normal(size=len(facets)).tolist(),
                )
                for each in range(segments)
            ],
        ),
        typical=chance.exponential(20, len(FEATURES)).tolist(),
        silence=silence,
        card={"cut": "2026-01-01"},
    )
    return structs.replace(document, **changes)


def some_features(customers: int, seed: int = 2, *, as_of: date = AS_OF) -> FeatureTable:
    """Numbers of chance; every tenth customer has not ordered."""
    chance = np.random.default_rng(seed)
    values = np.round(chance.exponential(60, (customers, len(FEATURES))), 2)
    values[:, COLUMNS["net_365d"]] -= 30
    values[:, COLUMNS["order_days"]] = np.arange(customers) % 10
    return FeatureTable(as_of, [CustomerId(f"C-{number}") for number in range(customers)], values)
