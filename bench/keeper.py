"""The keeper: cut-offs over everyone next to SQL, and the worker's memory with everyone in store."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import islice
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.figures import Results
from bench.ingest import START, traffic
from bench.site import HOUSE, BenchFailed, Site
from segmentation.policy import parse
from segmentation.storage import foundation, tiers
from segmentation.storage.engine import create_engine, transaction
from segmentation.storage.ledger import PostgresLedger
from segmentation.tiering import CutOffs, Standing

_REPEATS: Final = 5
_SWEEPS: Final = 20
_SWEEP_CUSTOMERS: Final = 500
"""As the keeper does it."""
_MOVED: Final = 1_000
"""Customers whose value moves between two refreshes."""
_MEMORY_EVENTS: Final = 10_000
_NOW: Final = datetime(2025, 1, 7, tzinfo=UTC)

_SEED = text("""
    -- Everyone ordered once, on the day before the traffic begins; values follow the traffic's own law.
    WITH given AS (
        SELECT 'SIM-' || lpad(n::text, greatest(6, length(n::text)), '0') AS customer_id,
               floor(50000000 / power((n * 7919::bigint) % :customers + 1, 0.9))::bigint + 100 AS value
        FROM generate_series(1, :customers) AS n
    ), known AS (
        INSERT INTO customers (customer_id) SELECT customer_id FROM given
    ), ordered AS (
        INSERT INTO day_buckets SELECT customer_id, CAST(:day AS date), 1, value, 0, 0, 1, 1, 1000, 0, 0, 0, 0, 0, 0, 0
        FROM given
    ), ranked AS (
        SELECT *, sum(value) OVER (ORDER BY value DESC, customer_id ROWS UNBOUNDED PRECEDING) - value AS before,
               sum(value) OVER () AS total
        FROM given
    ), tiered AS (
        SELECT *, CASE WHEN before < 0.80 * total THEN 'A' WHEN before < 0.95 * total THEN 'B' ELSE 'C' END AS tier
        FROM ranked
    )
    INSERT INTO snapshots
    SELECT customer_id, :day, CAST(:day AS date) + 29, value, tier, CAST(:day AS date), NULL, NULL, NULL, tier, :day,
           'new', segment, :day, '[]', level, '[]', 1, now()
    FROM tiered, LATERAL (SELECT CASE tier WHEN 'A' THEN 'strategic' WHEN 'B' THEN 'core' ELSE 'newcomer' END,
                                 CASE tier WHEN 'A' THEN 'vip' WHEN 'B' THEN 'stable' ELSE 'welcome' END)
                         AS words(segment, level)
""")
_HOUSE = text("UPDATE house SET as_of = :day")
_PARTITION = text("INSERT INTO partitions (topic, number, epoch, applied) VALUES ('seeded', 0, 1, :customers)")
_ONE_MORE = text("UPDATE partitions SET applied = applied + 1 WHERE topic = 'seeded'")
_MOVE = text("""
    -- What a batch leaves behind: some customers are worth a little more than before.
    WITH moved AS (
        UPDATE snapshots SET value = value + 1
        WHERE customer_id IN (SELECT customer_id FROM snapshots ORDER BY hashtext(customer_id) LIMIT :count)
        RETURNING customer_id, value
    )
    INSERT INTO value_moves (customer_ids, values)
    SELECT string_agg(customer_id, E'\n'), string_agg(value::text, E'\n') FROM moved
""")
_CUT_OFFS = text("""
    WITH ranked AS (
        SELECT customer_id, value,
               sum(value) OVER (ORDER BY value DESC, customer_id ROWS UNBOUNDED PRECEDING) - value AS before,
               sum(value) OVER () AS total
        FROM snapshots WHERE value > 0
    ), last AS (
        SELECT max(before) FILTER (WHERE before < 0.80 * total) AS a,
               max(before) FILTER (WHERE before < 0.95 * total) AS b
        FROM ranked
    )
    SELECT value::bigint, customer_id FROM ranked, last WHERE before IN (a, b) ORDER BY before
""")


async def measure_keeper(site: Site, results: Results, *, customers: int, wanted: frozenset[str]) -> None:
    """`keeper_vs_sql`, `worker_memory_mb`."""
    database = await site.database("keeper")
    engine = create_engine(database.url, application_name="bench", pool_size=3)
    try:
        site.say(f"Storing {customers:,} customers …")
        await seed(engine, customers)
        if "keeper_vs_sql" in wanted:
            site.say("Cut-offs: SQL and the keeper in turn …")
            await _compare(engine, results, customers)
            site.say("Midnight: everyone has come due, some of them are swept …")
            await _sweep(engine, results)
    finally:
        await engine.dispose()
    if "worker_memory_mb" in wanted:
        topics = site.topics("keeper")
        site.say(f"Ingesting {_MEMORY_EVENTS:,} events with {customers:,} customers in store …")
        site.produce(islice(traffic(customers), _MEMORY_EVENTS), topics)
        run = await database.ingest(topics, _MEMORY_EVENTS)
        results.figures["worker_memory_mb"] = round(run.peak_rss_mb, 1)
        results.details["worker_memory"] = {"customers": customers, "keepers_arrays": "included", **run.told()}


async def seed(engine: AsyncEngine, customers: int) -> None:
    """Stores everyone, settled but for the ranking; a day before the traffic begins."""
    await foundation.open_house(engine, HOUSE)
    await foundation.activate_policy(engine, _policy())
    async with transaction(engine) as connection:
        await connection.execute(text("SET LOCAL statement_timeout = 0"))  # a million rows take their time
        day = {"day": START.date()}
        await connection.execute(_SEED, day | {"customers": customers})
        await connection.execute(_HOUSE, day)
        await connection.execute(_PARTITION, {"customers": customers})
    async with engine.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await autocommit.execute(text("VACUUM ANALYZE"))


def _policy() -> str:
    return resources.files("segmentation").joinpath("policies/default.toml").read_text(encoding="utf-8")


async def _compare(engine: AsyncEngine, results: Results, customers: int) -> None:
    ledger = PostgresLedger(engine, HOUSE)
    rules = parse(_policy(), version=1).tiers
    ours = theirs = CutOffs()
    rank_seconds: list[float] = []
    async with transaction(engine, isolation="REPEATABLE READ") as connection:
        begin = time.perf_counter()
        roster = await tiers.load_roster(connection)
        load_seconds = time.perf_counter() - begin

    async def by_sql() -> None:
        nonlocal theirs
        async with transaction(engine) as connection:
            rows = (await connection.execute(_CUT_OFFS)).all()
        theirs = CutOffs(*(Standing(row.value, row.customer_id) for row in rows))

    async def move() -> None:
        async with transaction(engine) as connection:
            await connection.execute(_MOVE, {"count": _MOVED})

    async def refresh() -> None:
        nonlocal ours
        async with transaction(engine, isolation="REPEATABLE READ") as connection:
            moved = await tiers.take_moves(connection)
        begin = time.perf_counter()
        roster.update(moved)
        ours = (await asyncio.to_thread(roster.rank, rules)).cutoffs
        rank_seconds.append(time.perf_counter() - begin)

    async def settle() -> None:
        async with transaction(engine) as connection:
            await connection.execute(_ONE_MORE)
        if not await ledger.settle_tiers(now=_NOW):
            raise BenchFailed("the keeper did not settle")

    await settle()  # for the first time: whoever is to move moves now
    times: dict[str, list[float]] = {"sql": [], "refresh": [], "settle": []}
    for _ in range(_REPEATS):
        times["settle"].append(await _timed(settle))
        await move()
        for name, step in (("sql", by_sql), ("refresh", refresh)):
            times[name].append(await _timed(step))
        ledger = PostgresLedger(engine, HOUSE)  # what moved was taken by us, so the next one reads everyone
        await settle()
    if ours != theirs:
        raise BenchFailed(f"SQL finds {theirs}, the keeper {ours}")
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    results.figures["keeper_vs_sql"] = round(median["sql"] / median["refresh"], 2)
    results.details["keeper"] = {
        "customers": customers,
        "sql_seconds": round(median["sql"], 4),
        "customers_moved": _MOVED,
        "refresh_seconds": round(median["refresh"], 4),
        "first_load_seconds": round(load_seconds, 4),
        "update_and_rank_seconds": round(statistics.median(rank_seconds), 4),
        "whole_settling_seconds": round(median["settle"], 4),
        "sql_vs_whole_settling": round(median["sql"] / median["settle"], 2),
        "sql_vs_rank_alone": round(median["sql"] / statistics.median(rank_seconds), 2),
    }


async def _sweep(engine: AsyncEngine, results: Results) -> None:
    """How fast the sweep is when everybody's snapshot comes due at once, and how long one of its steps holds locks."""
    ledger = PostgresLedger(engine, HOUSE)
    async with transaction(engine) as connection:
        await connection.execute(_HOUSE, {"day": START.date() + timedelta(days=29)})
    seconds: list[float] = []
    for _ in range(_SWEEPS):
        begin = time.perf_counter()
        if await ledger.sweep(now=_NOW, limit=_SWEEP_CUSTOMERS) != _SWEEP_CUSTOMERS:
            raise BenchFailed("not everybody had come due")
        seconds.append(time.perf_counter() - begin)
    results.details["sweep"] = {
        "customers_per_step": _SWEEP_CUSTOMERS,
        "customers_per_second": round(_SWEEPS * _SWEEP_CUSTOMERS / sum(seconds), 1),
        "longest_step_seconds": round(max(seconds), 4),
    }
    async with transaction(engine) as connection:
        await connection.execute(_HOUSE, {"day": START.date()})


async def _timed(step: Callable[[], Awaitable[None]]) -> float:
    begin = time.perf_counter()
    await step()
    return time.perf_counter() - begin
