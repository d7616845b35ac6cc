"""What an operator does now and then beside a running system: check, rebuild, drop old events.

Laws: each works in small steps that are tried again while the database is away or a lock is held;
stopping at any point costs nothing but the time to begin again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import date, datetime, timedelta
from typing import ParamSpec, TypeVar

from ingest_worker.progress import Progress
from segmentation.errors import StoreUnavailable, UpkeepRefused
from segmentation.fields import CustomerId
from segmentation.settings import HouseSettings
from segmentation.storage import foundation
from segmentation.storage.audit import operator
from segmentation.storage.books import Books
from segmentation.storage.engine import create_engine
from segmentation.storage.recount import Difference, Recount
from segmentation.storage.retention import LEAST_DAYS, PostgresRetention

P = ParamSpec("P")
T = TypeVar("T")

_CUSTOMERS_AT_ONCE = 500
_EVENTS_AT_ONCE = 5_000
_DROPPED_AT_ONCE = 2_000
_BREATH_SECONDS = 0.02
_PATIENCE_SECONDS = (1, 2, 4, 8, 15, 30, 30, 30)
_SETTLING_SECONDS = 30


async def check(settings: HouseSettings, now: Callable[[], datetime]) -> int:
    """Prints every difference between what is stored and a recount; returns how many there are."""
    engine = create_engine(settings.database_url.get_secret_value(), application_name="check", pool_size=2)
    try:
        await foundation.open_house(engine, settings.house)
        recount, books = Recount(engine, settings.house), Books(engine, settings.house)
        customers = found = 0
        with Progress("recounting raw events", total=await books.raw_events()) as progress:
            found += _tell(await _persist(progress, books.check))
            async for customer_ids, events in _chunks(recount, progress):
                found += _tell(await _persist(progress, recount.check, customer_ids))
                customers += len(customer_ids)
                progress.advance(events)
            misplaced = await _once_settled(books, now, progress)
            found += _tell(misplaced or ())
    finally:
        await engine.dispose()
    unranked = "" if misplaced is not None else " The tiers were not compared: they are being settled; try again."
    print(f"{customers:,} customers recounted: {_differences(found)}.{unranked}")  # noqa: T201 - the answer
    return found


async def rebuild(settings: HouseSettings, now: Callable[[], datetime], *, accept_missing: bool) -> int:
    """Replaces whatever differs from a recount, printing it; returns how many differences it could not mend."""
    engine = create_engine(settings.database_url.get_secret_value(), application_name="rebuild", pool_size=2)
    try:
        await foundation.open_house(engine, settings.house)
        recount, books = Recount(engine, settings.house), Books(engine, settings.house)
        customers = found = left = 0
        with Progress("recounting raw events", total=await books.raw_events()) as progress:
            missing = await _persist(progress, books.missing_events)
            if missing > 0 and not accept_missing:
                raise UpkeepRefused(
                    f"{missing:,} applied events are neither stored nor dropped for their age; a rebuild would take "
                    "back what they counted. Restore the table events from a backup, or accept the loss with "
                    "--accept-missing-events"
                )
            by = operator()
            await _persist(progress, books.mend_clock, missing=missing, accept_missing=accept_missing, by=by)
            expected = False
            async for customer_ids, events in _chunks(recount, progress):
                # Looking first holds nobody up; where the last ones differed, these will too.
                differing: Sequence[Difference] = ()
                if expected or len(await _persist(progress, recount.check, customer_ids)):
                    differing = await _persist(progress, recount.mend, customer_ids, now=now())
                expected = bool(differing)
                found += _tell(differing)
                left += sum(not each.mendable for each in differing)
                customers += len(customer_ids)
                progress.advance(events)
            await _persist(progress, recount.unsettle)
            left += _tell(await _persist(progress, books.check))
    finally:
        await engine.dispose()
    print(  # noqa: T201 - the answer
        f"{customers:,} customers recounted: {_differences(found)}, {left} of all that was found could not be mended. "
        "The tiers are settled anew by the running workers."
    )
    return left


async def drop_events(settings: HouseSettings, before: date, now: Callable[[], datetime]) -> str:
    """Drops raw events older than a day; returns what was done, in a sentence.

    Raises:
        UpkeepRefused: the day is too recent; nothing was dropped.
    """
    engine = create_engine(settings.database_url.get_secret_value(), application_name="drop-events", pool_size=2)
    dropped = kept = 0
    try:
        await foundation.open_house(engine, settings.house)
        retention = PostgresRetention(engine, settings.house)
        as_of = await retention.as_of(now())
        if as_of is None:
            return "No event was ever applied; there is nothing to drop."
        if before > as_of - timedelta(days=LEAST_DAYS):
            raise UpkeepRefused(
                f"--before is {before}, less than {LEAST_DAYS} days before the current business day {as_of}: repeats "
                "of recent events would no longer be recognised. The latest possible is "
                f"{as_of - timedelta(days=LEAST_DAYS)}"
            )
        with Progress("dropping raw events", total=await retention.old_events(before)) as progress:
            first: date | None = date.min
            while first is not None:
                # One entry of the audit trail for all steps, with the first of them that drops something.
                by = None if dropped else operator()
                step = await _persist(progress, retention.drop, before, first=first, limit=_DROPPED_AT_ONCE, by=by)
                dropped, kept, first = dropped + step.dropped, kept + step.kept, step.next_day
                progress.advance(step.dropped)
                await asyncio.sleep(_BREATH_SECONDS)
    finally:
        await engine.dispose()
    unreadable = f" {kept:,} stay because they cannot be read any more; see `ingest-worker check`." if kept else ""
    return (
        f"{dropped:,} raw events of days before {before} were dropped; what they counted stays.{unreadable} "
        "Rejected messages are kept at any age."
    )


async def _chunks(recount: Recount, progress: Progress) -> AsyncIterator[tuple[list[CustomerId], int]]:
    """Customers in order of their ids, some at a time, and how many raw events those have."""
    after = ""
    while page := await _persist(progress, recount.page, after, limit=_CUSTOMERS_AT_ONCE):
        chunk: list[CustomerId] = []
        total = 0
        for customer_id, events in page:
            if chunk and total + events > _EVENTS_AT_ONCE:
                yield chunk, total
                chunk, total = [], 0
            chunk.append(customer_id)
            total += events
        yield chunk, total
        after = page[-1][0]


async def _once_settled(books: Books, now: Callable[[], datetime], progress: Progress) -> Sequence[Difference] | None:
    """What the ranking says, as soon as it covers everything for a moment; None if it does not in a while."""
    for _ in range(_SETTLING_SECONDS * 4):
        found = await _persist(progress, books.misplaced, now=now())
        if found is not None:
            return found
        await asyncio.sleep(0.25)
    return None


async def _persist(progress: Progress, step: Callable[P, Awaitable[T]], *arguments: P.args, **named: P.kwargs) -> T:
    """Does a step, again and again while the database is away or somebody holds what it needs."""
    for seconds in _PATIENCE_SECONDS:
        try:
            return await step(*arguments, **named)
        except StoreUnavailable as error:
            progress.say(f"{error}; trying again in {seconds} s")
            await asyncio.sleep(seconds)
    return await step(*arguments, **named)


def _tell(differences: Sequence[Difference]) -> int:
    for difference in differences:
        print(difference, flush=True)  # noqa: T201 - the answer
    return len(differences)


def _differences(count: int) -> str:
    return "no difference" if count == 0 else "1 difference" if count == 1 else f"{count:,} differences"
