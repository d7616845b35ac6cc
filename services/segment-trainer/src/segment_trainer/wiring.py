"""The trainer's one way to the database: its models, and the customers that are recorded there."""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from segment_trainer.failures import NotPossible
from segment_trainer.recorded import Recorded
from segment_trainer.sources import Say
from segmentation.access import Actor
from segmentation.calendar import BusinessCalendar, instant_of
from segmentation.fields import CustomerId
from segmentation.metrics import BucketTable
from segmentation.money import MINOR_UNITS
from segmentation.settings import DatabaseSettings
from segmentation.storage import foundation, training
from segmentation.storage.assessed import load_decision_columns
from segmentation.storage.audit import operator
from segmentation.storage.engine import create_engine, transaction
from segmentation.storage.models import PostgresModels
from segmentation.versions import Models

T = TypeVar("T")


class Store:
    """The database of DATABASE_URL, for a command that waits for each answer. Use it as a context."""

    models: Models
    by: Actor
    """Whoever runs the command, as the audit trail names them."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self.by = operator()
        self._runner = asyncio.Runner()
        address = settings.database_url.get_secret_value()
        self._engine = create_engine(address, application_name="segment-trainer", pool_size=1)

    def __enter__(self) -> Self:
        try:
            self.house = self.run(foundation.stored_house(self._engine))
        except BaseException:
            self._close()
            raise
        self.models = PostgresModels(self._engine, self.house)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def run(self, answer: Coroutine[Any, Any, T]) -> T:
        """Waits for it."""
        return self._runner.run(answer)

    def today(self, now: datetime) -> date:
        """The business day that answers are computed for.

        Raises:
            NotPossible: no event was applied yet.
        """
        if self.house.clock == "system":
            return BusinessCalendar(self.house.time_zone).business_day(instant_of(now))
        as_of = self.run(self._as_of())
        if as_of is None:
            raise NotPossible("no event was applied yet")
        return as_of

    def recorded(self, now: datetime, say: Say) -> Recorded:
        """Everyone, with the days that are over.

        Raises:
            NotPossible: no event was applied yet.
        """
        days = self.run(self._days())
        if days is None:
            raise NotPossible("no event was applied yet")
        # Today goes on, unless the events' clock says which day it is: then nobody knows, and it counts as over.
        over = self.today(now) - timedelta(days=1 if self.house.clock == "system" else 0)
        return Recorded(
            self.run(self._customer_ids()),
            self._load,
            say,
            days=(days.first, min(days.last, over)),
            base_currency=self.house.base_currency,
            decimals=MINOR_UNITS[self.house.base_currency],
        )

    def _load(self, customer_ids: Sequence[CustomerId]) -> BucketTable:
        return self.run(self._buckets(customer_ids))

    async def _as_of(self) -> date | None:
        async with transaction(self._engine) as connection:
            return (await foundation.load_state(connection)).as_of

    async def _days(self) -> training.KnownDays | None:
        async with transaction(self._engine) as connection:
            return await training.known_days(connection)

    async def _customer_ids(self) -> Sequence[CustomerId]:
        async with transaction(self._engine) as connection:
            return await training.customer_ids(connection)

    async def _buckets(self, customer_ids: Sequence[CustomerId]) -> BucketTable:
        async with transaction(self._engine) as connection:
            return await load_decision_columns(connection, customer_ids)

    def _close(self) -> None:
        self.run(self._engine.dispose())
        self._runner.close()
