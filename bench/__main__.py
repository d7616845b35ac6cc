"""`python -m bench`: measures, prints a table, and writes bench/results.json."""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.bulk import measure_bulk
from bench.figures import GOALS, RESULTS, Results
from bench.follow import measure_following
from bench.freshness import measure_freshness
from bench.ingest import measure_growth, measure_ingestion
from bench.keeper import measure_keeper
from bench.lookups import measure_lookups
from bench.site import BenchFailed, Site
from local_stack.failures import StackFailed


def _keys(given: str) -> frozenset[str]:
    keys = frozenset(given.split(","))
    if unknown := keys - GOALS.keys():
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: one of {', '.join(GOALS)} is expected")
    return keys


def _count(given: str) -> int:
    number = int(given)
    if number < 1_000:  # noqa: PLR2004 - less tells nothing
        raise argparse.ArgumentTypeError("at least 1000 is expected")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--events", type=_count, default=60_000, help="messages to ingest (default %(default)s)")
    parser.add_argument(
        "--customers", type=_count, default=1_000_000, help="customers that the keeper ranks (default %(default)s)"
    )
    parser.add_argument(
        "--only",
        type=_keys,
        default=frozenset(GOALS),
        metavar="KEY,...",
        help=f"measure these alone (the file then holds no others): {', '.join(GOALS)}",
    )
    options = parser.parse_args(arguments)
    console = Console()
    begin = time.monotonic()

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - begin:6.1f} s[/dim]  {line}", highlight=False)

    results = Results()
    results.details["run"] = {
        "events": options.events,
        "customers": options.customers,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    try:
        with tempfile.TemporaryDirectory(prefix="tierline-bench-") as directory, Site(Path(directory), say) as site:
            Path(directory).chmod(0o755)  # PostgreSQL may have to run as another user
            asyncio.run(_measure(site, results, options.events, options.customers, options.only))
        failure = None
    except (BenchFailed, StackFailed) as failed:
        failure = str(failed)
    results.write()
    console.print(_table(results))
    say(f"Written to {RESULTS.parent.name}/{RESULTS.name}")
    if failure is not None:
        console.print(f"The rest was not measured: {failure}", markup=False, highlight=False)
        return 1
    return 0


async def _measure(site: Site, results: Results, events: int, customers: int, wanted: frozenset[str]) -> None:
    if wanted & {"ingest_vs_copy", "ingest_vs_orm"}:
        await measure_ingestion(site, results, events=events, wanted=wanted)
    if "bulk_vs_single" in wanted:
        await measure_bulk(site, results)
    if "growth_events_x10" in wanted:
        await measure_growth(site, results, events=events)
    if wanted & {"lookup_vs_empty_route", "lookup_p99_vs_empty_route", "growth_customers_x10"}:
        await measure_lookups(site, results, customers=customers, wanted=wanted)
    if "freshness_vs_floor" in wanted:
        await measure_freshness(site, results, events=events)
    if wanted & {"keeper_vs_sql", "worker_memory_mb"}:
        await measure_keeper(site, results, customers=customers, wanted=wanted)
    if "tier_follow_seconds" in wanted:
        await measure_following(site, results, customers=customers)


def _table(results: Results) -> Table:
    table = Table("figure", "reached", "goal", "")
    table.columns[1].justify = "right"
    for key, goal in GOALS.items():
        if key in results.figures:
            figure = results.figures[key]
            table.add_row(key, f"{figure:,.3f}", str(goal), "[green]yes" if goal.reached(figure) else "[red]no")
    return table


if __name__ == "__main__":
    sys.exit(main())
