"""`python -m chaos`: faults from a seed against real processes under load, then everything counted again."""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from chaos.campaign import Options, Report, run
from chaos.schedule import Kind
from chaos.site import CampaignFailed
from local_stack.failures import StackFailed
from local_stack.kafka_distribution import find_distribution

_SHOWN: Final = 40


def _seeds(given: str) -> list[int]:
    first, _, last = given.partition("-")
    seeds = list(range(int(first), int(last or first) + 1))
    if not seeds:
        raise argparse.ArgumentTypeError(f"{given}: a range such as 1-10 is expected")
    return seeds


def _kinds(given: str) -> list[Kind]:
    try:
        return [Kind(name) for name in given.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}: one of {', '.join(Kind)} is expected") from None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, help="of the one campaign to run (default: chosen by chance, and printed)")
    which.add_argument("--seeds", type=_seeds, metavar="N-M", help="one campaign after another, and a table at the end")
    parser.add_argument(
        "--seconds", type=float, default=90.0, help="how long faults begin in each campaign (default %(default)s)"
    )
    parser.add_argument("--workers", type=int, choices=range(1, 9), default=2, help="default %(default)s")
    parser.add_argument("--rate", type=float, default=100.0, help="messages produced a second (default %(default)s)")
    parser.add_argument("--only", type=_kinds, default=list(Kind), metavar="KIND,...", help=f"of {', '.join(Kind)}")
    parser.add_argument("--keep", action="store_true", help="keep logs and data even where there is no difference")
    options = parser.parse_args(arguments)
    seeds = options.seeds or [int.from_bytes(os.urandom(3)) if options.seed is None else options.seed]
    console = Console()
    reports: list[Report] = []
    try:
        for seed in seeds:
            chosen = Options(seed, options.seconds, options.workers, options.rate, options.only)
            reports.append(_campaign(chosen, console, keep=options.keep))
    except (CampaignFailed, StackFailed) as failed:
        console.print(f"The campaign did not come off: {failed}", markup=False, highlight=False)
        return 2
    if len(reports) > 1:
        console.print(_table(reports))
    return 1 if any(report.differences for report in reports) else 0


def _campaign(options: Options, console: Console, *, keep: bool) -> Report:
    began = time.monotonic()

    def say(line: str) -> None:
        console.print(f"{time.monotonic() - began:6.1f} s  {line}", markup=False, highlight=False, soft_wrap=True)

    distribution = find_distribution(os.environ, say=say)  # noqa: TID251 - where Java and the jars are
    directory = Path(tempfile.mkdtemp(prefix=f"tierline-chaos-{options.seed}-"))
    done = False
    try:
        report = asyncio.run(run(options, directory, distribution, say))
        done = not report.differences and not keep
    finally:
        if done:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            say(f"Logs and data are kept in {directory}")
    for line in verdict_of(report, again=f'make chaos ARGS="--seed {options.seed} --seconds {options.seconds:g}"'):
        say(line)
    return report


def verdict_of(report: Report, *, again: str) -> list[str]:
    """What there is to say at the end of a campaign."""
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in report.outcomes.items())
    lines = [
        (
            f"{report.faults.total()} faults of {len(report.faults)} kinds; {report.messages} messages of "
            f"{report.customers} customers: {outcomes}. Workers began anew "
            f"{report.sessions_ended} times, and {report.refused_starts} times found no database at their start."
        ),
    ]
    if not report.differences:
        return [*lines, f"Seed {report.seed}: no difference."]
    lines += report.differences[:_SHOWN]
    if (more := len(report.differences) - _SHOWN) > 0:
        lines.append(f"… and {more} more")
    return [*lines, f"Seed {report.seed}: {len(report.differences)} DIFFERENCES. Once more: {again}"]


def _table(reports: Sequence[Report]) -> Table:
    table = Table("seed", "faults", "kinds", "messages", "applied", "rejected", "caught up", "differences")
    for column in table.columns:
        column.justify = "right"
    for report in reports:
        table.add_row(
            str(report.seed),
            str(report.faults.total()),
            str(len(report.faults)),
            f"{report.messages:,}",
            f"{report.outcomes.get('applied', 0):,}",
            f"{report.outcomes.get('rejected', 0):,}",
            f"{report.caught_up_seconds:.1f} s",
            f"[red]{len(report.differences)}" if report.differences else "[green]none",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
