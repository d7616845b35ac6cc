"""Lookups: next to an empty route, and with ten times the customers in store."""

import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
from sqlalchemy import text

from bench.figures import Results
from bench.ingest import START
from bench.keeper import seed
from bench.load import Answered, Load, run
from bench.site import HOUSE, BenchFailed, Database, Site
from local_stack.ports import free_port
from local_stack.processes import Child
from segmentation.storage.engine import create_engine, transaction
from segmentation.storage.ledger import PostgresLedger

_ROUNDS: Final = 5
_SECONDS: Final = 2.0
_CONNECTIONS: Final = 16
_MORE_CONNECTIONS: Final = 64
_ASKED: Final = 2_000
"""Customers who are asked for, again and again."""
_SHARE_OF_THE_LIMIT: Final = 0.5

_COMPLETE = text("""
    -- As the product would have stored them, so that a read has nothing to find out again.
    UPDATE snapshots SET grade = 'general', value_level = 'low', size = 'small', frequency = 'low', order_traits = '[]'
""")


@dataclass(slots=True)
class Server:
    """A server under load."""

    port: int
    child: Child
    headers: Mapping[str, str]
    paths: Path
    cpu_seconds: float = 0.0
    answers: int = 0

    async def load(self, seconds: float, *, rate: float | None = None, connections: int = _CONNECTIONS) -> Answered:
        """Asks it, and fails where anything but 200 is answered."""
        before = self._used()
        answered = await run(
            Load(self.port, str(self.paths), seconds, connections, rate=rate, headers=dict(self.headers))
        )
        if set(answered.statuses) != {"200"}:
            raise BenchFailed(f"{self.child.name} answered {answered.statuses}: {self.child.last_lines()}")
        self.cpu_seconds += self._used() - before
        self.answers += answered.answers
        return answered

    async def warm(self) -> None:
        """Asks for everyone once."""
        await run(Load(self.port, str(self.paths), 0, _CONNECTIONS, headers=dict(self.headers), each_once=True))

    def _used(self) -> float:
        used = psutil.Process(self.child.pid).cpu_times()
        return float(used.user + used.system)

    @property
    def microseconds(self) -> float:
        """Of processor time, for each answer."""
        return round(self.cpu_seconds / self.answers * 1e6, 1)


async def measure_lookups(site: Site, results: Results, *, customers: int, wanted: frozenset[str]) -> None:
    """`lookup_vs_empty_route`, `lookup_p99_vs_empty_route`, `growth_customers_x10`."""
    few = await _stored(site, "lookups_few", customers // 10)
    with site.running() as running:
        api = await serve_api(site, few, customers // 10)
        running.callback(api.child.stop, seconds=30)
        if wanted & {"lookup_vs_empty_route", "lookup_p99_vs_empty_route"}:
            empty = await _empty_route(site)
            running.callback(empty.child.stop, seconds=30)
            await _compare(site, results, api, empty, wanted)
        if "growth_customers_x10" in wanted:
            many = await _stored(site, "lookups_many", customers)
            servers = [api, await serve_api(site, many, customers)]
            running.callback(servers[1].child.stop, seconds=30)
            reading = [
                await serve_api(site, few, customers // 10, LOOKUP_CACHE_MB="0"),
                await serve_api(site, many, customers, LOOKUP_CACHE_MB="0"),
            ]
            for each in reading:
                running.callback(each.child.stop, seconds=30)
            await _grow(site, results, servers, reading, customers)


async def _compare(site: Site, results: Results, api: Server, empty: Server, wanted: frozenset[str]) -> None:
    site.say("Lookups and the empty route in turn …")
    both = {"api": api, "empty": empty}
    found = await in_turn({name: _closed(server) for name, server in both.items()})
    limit = {name: statistics.median(each.per_second for each in some) for name, some in found.items()}
    ratio = statistics.median(a.per_second / b.per_second for a, b in zip(found["api"], found["empty"], strict=True))
    if "lookup_vs_empty_route" in wanted:
        results.figures["lookup_vs_empty_route"] = round(ratio, 3)
    results.details["lookups"] = {
        "authentication": "keys",
        "customers_asked_for": _ASKED,
        "connections": _CONNECTIONS,
        "per_second": {name: round(each, 1) for name, each in limit.items()},
        "cpu_microseconds": {name: each.microseconds for name, each in both.items()},
        "ratio_of_cpu": round(empty.microseconds / api.microseconds, 3),
        "ratio_of_each_round": [
            round(a.per_second / b.per_second, 2) for a, b in zip(found["api"], found["empty"], strict=True)
        ],
    }
    if "lookup_p99_vs_empty_route" not in wanted:
        return
    rate = _SHARE_OF_THE_LIMIT * limit["empty"]
    site.say(f"Both at {rate:,.0f} requests/s …")
    paced = await in_turn({name: _paced(server, rate) for name, server in both.items()})
    p99 = {name: statistics.median(each.p99 for each in some) for name, some in paced.items()}
    results.figures["lookup_p99_vs_empty_route"] = round(p99["api"] / p99["empty"], 3)
    results.details["lookup_latency"] = {
        "requests_per_second": round(rate, 1),
        "connections": _MORE_CONNECTIONS,
        "p50_ms": {n: round(statistics.median(e.p50 for e in some) * 1e3, 3) for n, some in paced.items()},
        "p99_ms": {name: round(each * 1e3, 3) for name, each in p99.items()},
        "p99_ms_of_each_round": {n: [round(e.p99 * 1e3, 3) for e in some] for n, some in paced.items()},
        "worst_ms": {n: round(max(e.worst for e in some) * 1e3, 3) for n, some in paced.items()},
    }


async def _grow(site: Site, results: Results, servers: list[Server], reading: list[Server], customers: int) -> None:
    site.say(f"Lookups with {customers // 10:,} and with {customers:,} customers in store …")
    kinds = {"hit": servers, "read": reading}
    found = await in_turn({f"{kind} {which}": _closed(some[which]) for kind, some in kinds.items() for which in (0, 1)})
    grown = {
        kind: statistics.median(
            a.per_second / b.per_second for a, b in zip(found[f"{kind} 0"], found[f"{kind} 1"], strict=True)
        )
        for kind in kinds
    }
    results.figures["growth_customers_x10"] = round(max(grown.values()), 3)
    results.details["growth_customers"] = {
        "customers_in_store": [customers // 10, customers],
        "customers_asked_for": _ASKED,
        "from_memory": round(grown["hit"], 3),
        "read_from_the_store": round(grown["read"], 3),
        "per_second": {n: round(statistics.median(e.per_second for e in some), 1) for n, some in found.items()},
    }


def _closed(server: Server) -> Callable[[], Awaitable[Answered]]:
    return lambda: server.load(_SECONDS)


def _paced(server: Server, rate: float) -> Callable[[], Awaitable[Answered]]:
    return lambda: server.load(2 * _SECONDS, rate=rate, connections=_MORE_CONNECTIONS)


async def in_turn(kinds: Mapping[str, Callable[[], Awaitable[Answered]]]) -> dict[str, list[Answered]]:
    """Several rounds of each, one after another, so that what else the machine does meets all of them."""
    found: dict[str, list[Answered]] = {name: [] for name in kinds}
    for number in range(_ROUNDS + 1):
        for name, measure in kinds.items():
            answered = await measure()
            if number:  # the first one is to get warm
                found[name].append(answered)
    return found


async def _stored(site: Site, name: str, customers: int) -> Database:
    site.say(f"Storing {customers:,} customers …")
    database = await site.database(name)
    engine = create_engine(database.url, application_name="bench", pool_size=3)
    try:
        await seed(engine, customers)
        async with transaction(engine) as connection:
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
            await connection.execute(_COMPLETE)
        await PostgresLedger(engine, HOUSE).settle_tiers(now=START)
        async with engine.connect() as connection:
            await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(text("VACUUM ANALYZE"))
    finally:
        await engine.dispose()
    return database


async def serve_api(site: Site, database: Database, customers: int, *, warm: bool = True, **settings: str) -> Server:
    """The real API with keys on, and a key to it."""
    port = free_port()
    environment = database.settings | {"AUTH": "keys", "HTTP_PORT": str(port), "RATE_LIMIT": "1000000"} | settings
    created = subprocess.run(  # noqa: S603, ASYNC221 - a program of ours, and nothing else is under way
        [site.program("segment-api"), "keys", "create", "--name", "bench", "--scopes", "read"],
        check=True,
        capture_output=True,
        text=True,
        env=site.environment(environment),
    )
    key = created.stdout.strip().splitlines()[-1]
    child = site.start("segment-api", [site.program("segment-api"), "run"], environment, f"api-{port}.log")
    paths = site.directory / f"paths-{port}"
    step = max(1, customers // _ASKED)
    asked = [f"/customers/SIM-{number:06d}/segment" for number in range(1, customers + 1, step)][:_ASKED]
    paths.write_text("\n".join(asked), encoding="utf-8")
    server = Server(port, child, {"Authorization": f"Bearer {key}"}, paths)
    await site.await_port(child, port)
    if warm:
        await server.warm()
    return server


async def _empty_route(site: Site) -> Server:
    port = free_port()
    paths = site.directory / f"paths-{port}"
    paths.write_text("/\n" * _CONNECTIONS, encoding="utf-8")
    child = site.start("empty-route", [sys.executable, "-m", "bench.empty_route", str(port)], {}, f"empty-{port}.log")
    await site.await_port(child, port)
    return Server(port, child, {}, paths)
