"""What an operator does by hand: load rates, replay rejects, resume, have a full snapshot, begin a broker anew."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path

from segmentation.errors import NotHalted, RatesInvalid
from segmentation.feeds import FullSnapshot
from segmentation.ledger import Quarantine
from segmentation.money import parse_rates
from segmentation.outcomes import Partition
from segmentation.settings import HouseSettings
from segmentation.storage import foundation
from segmentation.storage.audit import operator
from segmentation.storage.engine import create_engine
from segmentation.storage.feeds import leap
from segmentation.storage.full_snapshots import PostgresFullSnapshots
from segmentation.storage.ledger import PostgresLedger

_PROGRESS_EVERY = 500
_ASK_AGAIN_SECONDS = 0.5


async def load_rates(settings: HouseSettings, file: Path) -> str:
    """Stores the rates of a CSV file; returns what was done, in a sentence.

    Raises:
        RatesInvalid: the file cannot be read or understood; nothing was stored.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rates = parse_rates(lines, base_currency=settings.base_currency)
    except (OSError, UnicodeDecodeError) as error:
        raise RatesInvalid(f"{file} cannot be read: {error}") from None
    engine = create_engine(settings.database_url.get_secret_value(), application_name="load-rates", pool_size=1)
    try:
        await foundation.open_house(engine, settings.house)
        await foundation.add_rates(engine, rates, by=operator())
    finally:
        await engine.dispose()
    currencies = {rate.currency for rate in rates}
    return f"{len(rates)} rates of {len(currencies)} currencies into {settings.base_currency} are loaded."


async def replay(settings: HouseSettings, letter_ids: Sequence[int], reason: str | None, now: datetime) -> str:
    """Replays dead letters by id, or all that are still rejected (for one reason); returns what came of them."""
    engine = create_engine(settings.database_url.get_secret_value(), application_name="replay", pool_size=1)
    outcomes: Counter[str] = Counter()
    try:
        await foundation.open_house(engine, settings.house)
        ledger = PostgresLedger(engine, settings.house)
        async for letter_id in _wanted(ledger, letter_ids, reason):
            result = await ledger.replay(letter_id, now=now, by=operator())
            outcomes["unknown" if result is None else result.outcome] += 1
            if outcomes.total() % _PROGRESS_EVERY == 0:
                print(f"{outcomes.total()} replayed ...", file=sys.stderr)  # noqa: T201 - progress, for a person
    finally:
        await engine.dispose()
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())) or "none was there to replay"
    return f"{outcomes.total()} dead letters replayed: {told}."


async def _wanted(quarantine: Quarantine, letter_ids: Sequence[int], reason: str | None) -> AsyncIterator[int]:
    for letter_id in letter_ids:
        yield letter_id
    after = 0
    while not letter_ids and (page := await quarantine.refused(reason=reason, after=after, limit=_PROGRESS_EVERY)):
        for letter_id in page:
            yield letter_id
        after = page[-1]


async def snapshot(settings: HouseSettings, *, wait: bool) -> str:
    """Asks for a full snapshot and, if told to, waits until it is on its topic; returns what was done."""
    engine = create_engine(settings.database_url.get_secret_value(), application_name="snapshot", pool_size=1)
    try:
        await foundation.open_house(engine, settings.house)
        snapshots = PostgresFullSnapshots(engine)
        asked = found = await snapshots.ask(by=operator())
        if not wait:
            return f"Full snapshot {asked.id} is asked for; GET /ingest/full-snapshots shows how far it is."
        said = ""
        while found.done_at is None:
            if (told := _told(found)) != said:
                print(told, file=sys.stderr)  # noqa: T201 - progress, for a person
                said = told
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
            found = await snapshots.find(asked.id) or found
    finally:
        await engine.dispose()
    return f"Full snapshot {found.name} is on the topic of changes, with its end markers: {found.customers} customers."


def _told(snapshot: FullSnapshot) -> str:
    if snapshot.begun_at is None:
        return f"Full snapshot {snapshot.id} is asked for; a running worker begins it within seconds ..."
    return f"Full snapshot {snapshot.name}: {snapshot.customers} customers ..."


async def resume(settings: HouseSettings, partition: Partition | None) -> str:
    """Lets a halted partition go on, or all of them for None; returns what was done, a line for each.

    Raises:
        NotHalted: it does not stand halted, or none does.
    """
    engine = create_engine(settings.database_url.get_secret_value(), application_name="resume", pool_size=1)
    try:
        await foundation.open_house(engine, settings.house)
        asked = None if partition is None else [partition]
        found = await PostgresLedger(engine, settings.house).resume(asked, by=operator())
    finally:
        await engine.dispose()
    if partition is None and not found:
        raise NotHalted("no partition stands halted; there is nothing to resume")
    if partition is not None and found.get(partition) is None:
        why = "does not stand halted" if partition in found else "was never read by a worker"
        raise NotHalted(
            f"{partition.topic}/{partition.number} {why}; GET /ingest/status shows which partitions stand halted"
        )
    return "\n".join(
        f"{each.topic}/{each.number} goes on after offset {halt.offset}, where it had halted because {halt.sentence}. "
        "Its reject budget begins anew."
        for each, halt in found.items()
        if halt is not None
    )


async def restored(settings: HouseSettings) -> str:
    """After the database was restored to an earlier point; returns what was done and what is to be done."""
    engine = create_engine(settings.database_url.get_secret_value(), application_name="restored", pool_size=1)
    try:
        await foundation.open_house(engine, settings.house)
        position = await leap(engine, by=operator())
        asked = await PostgresFullSnapshots(engine).ask(by=operator())
    finally:
        await engine.dispose()
    return (
        f"Changes go on at sequence {position + 1}, beyond whatever was announced before; full snapshot {asked.id} is "
        "asked for, so that whoever follows them can reconcile. Do the erasures since the backup again with "
        "`ingest-worker erasures --apply FILE`, then start the workers, do again what else people did since (rates, "
        "replays, policies, overrides), and run `ingest-worker check`."
    )


async def reposition(settings: HouseSettings) -> str:
    """Lets every partition be read from its beginning; returns what was done, in a sentence."""
    engine = create_engine(settings.database_url.get_secret_value(), application_name="reposition", pool_size=1)
    try:
        await foundation.open_house(engine, settings.house)
        await PostgresLedger(engine, settings.house).reposition(by=operator())
    finally:
        await engine.dispose()
    return "Every partition will be read from its beginning; what was applied before will count as duplicate."
