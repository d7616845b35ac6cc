"""A model whose scores anybody can work out, in the form in which models are published.

Laws, which the oracle (`Oracle.foretold`) works out without it: the odds of churn are (days since the last order + 1)
to 30.7; expected is 90 days' share of the net revenue of 365 days, and 1 unit; who complains about more than a quarter
of the orders is `troubled`, everybody else `content`.
"""

from __future__ import annotations

import math
from datetime import date
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from segmentation import scoring
from segmentation.facets import Scale
from segmentation.features import FEATURES
from segmentation.forests import Forest
from segmentation.ledger import House
from segmentation.scoring import Churn, Document, Linear, Model, SegmentPart, SegmentsPart, Value
from segmentation.storage.models import PostgresModels

AUTHOR: Final = "li.wei"


def _vector(default: float, **named: float) -> list[float]:
    return [named.get(name, default) for name in FEATURES]


def document(
    *, base_currency: str = "CNY", names: tuple[str, str] = ("content", "troubled"), odds: float = 30.7
) -> Document:
    """The model; `odds` against churn right after an order, and the codes of its segments."""
    words = {"content": {"en": "Content", "zh": "满意"}, "troubled": {"en": "Troubled", "zh": "不满"}}
    # What is foretold is the mean of both parts: the trees say nothing, so the line is doubled.
    linear = Linear(_vector(0), _vector(1), _vector(0, recency_days=1), -math.log(odds))
    return Document(
        features=list(FEATURES),
        horizon_days=90,
        base_currency=base_currency,
        first_day=date(1, 1, 1),
        bins=[[] for _ in FEATURES],
        churn=Churn(linear, Forest(0.0, []), 2.0, 0.0),
        value=Value(1.0, 1.0, Forest(1.0, []), Forest(1.0, [])),
        segments=SegmentsPart(
            [Scale("complaints", 1.0, 0.0, 1.0)],
            [
                SegmentPart(code, words.get(code, {"en": code, "zh": code}), [centroid])
                for code, centroid in zip(names, (0.0, 1.0), strict=True)
            ],
        ),
        typical=_vector(0),
        card={"horizon_days": 90},
    )


def a_model(version: int = 1, **chosen: Any) -> Model:
    """The model, read as it would be from the store."""
    return scoring.parse(document(**chosen).encoded(), version=version)


async def put_in_force(engine: AsyncEngine, house: House, **chosen: Any) -> int:
    """Publishes the model and puts it in force; returns its version."""
    models = PostgresModels(engine, house)
    written = document(base_currency=house.base_currency, **chosen).encoded().decode()
    published = await models.publish(written, author=AUTHOR, note=None, refusals=[], forced_because=None)
    await models.activate(published.version, author=AUTHOR, reason="try it")
    return published.version


async def roll_back(engine: AsyncEngine, house: House) -> None:
    """Puts in force what was so before."""
    await PostgresModels(engine, house).rollback(author=AUTHOR, reason="go back")
