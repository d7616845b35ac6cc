"""What the stack prints when all is in: what came out, and where to look.

Laws: every figure comes from the API, so that whoever asks it finds the same. On a terminal there are tables,
elsewhere the same text without frames.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from local_stack.api import OUTCOMES, Api, IngestStatus
from local_stack.live import Figures, Simulation

_WINDOW = "365d"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is, as `stack.json` says it."""

    api: str
    kafka_bootstrap_servers: str
    database_url: str
    broker: str
    worker: str
    key_file: str | None = None
    """Of a key that may read and operate, with AUTH on."""


def print_outcome(console: Console, api: Api, status: IngestStatus, *, currency: str, largest: list[str]) -> None:
    """What the events have come to."""
    console.print()
    console.print(_events_table(console, status))
    if not status.customers:
        return
    console.print(_tiers_table(console, api.tiers(), currency))
    if largest:
        console.print(_largest_table(console, api, largest, currency))


def _without_password(url: str) -> str:
    return re.sub(r"(://[^:@/]*):[^@/]*@", r"\1:…@", url)


def print_addresses(
    console: Console, addresses: Addresses, *, auth: str, customer_ids: list[str], simulation: Simulation | None
) -> None:
    """Where to look, and what to try."""
    one = customer_ids[0] if customer_ids else "C-1042"
    body = json.dumps({"customer_ids": customer_ids[:2] or [one]})
    shown = "" if addresses.key_file is None else f' -H "Authorization: Bearer $(cat {addresses.key_file})"'
    lines = [
        "",
        f"API       {addresses.api}",
        f"docs      {addresses.api}/docs",
        f"worker    {addresses.worker}/health/ready (what it waits for), /metrics",
        f"Kafka     {addresses.kafka_bootstrap_servers}",
        f"database  {_without_password(addresses.database_url)} (with its password in stack.json)",
        "",
        "Try:",
        f"  curl -s{shown} {addresses.api}/customers/{one}/segment",
        f"  curl -s{shown} {addresses.api}/tiers",
        f"  curl -s{shown} {addresses.api}/customers/segments -H 'Content-Type: application/json' -d '{body}'",
        "",
    ]
    if auth == "off":
        lines += ["AUTH=off: everybody on this machine may ask and change everything; it listens on loopback only.", ""]
    console.print("\n".join(lines))
    if addresses.broker == "in-process":
        print_stand_in_banner(console)
    if simulation is not None:
        print_synthetic_banner(console, simulation)
    console.print("Ctrl-C stops everything and keeps the data.")


def print_stand_in_banner(console: Console) -> None:
    """Say that this is no Kafka."""
    rule = "=" * 92
    console.print(
        f"{rule}\nThis is NOT a real Kafka but librdkafka's in-process broker: for looking around only.\n"
        "One worker, short partitions, and nothing is kept in it across restarts (the database is).\n"
        f"With Java 17 and Maven installed, `make run` starts a real one.\n{rule}",
        style="bold yellow",
    )


class BarDisplay:
    """Two progress bars on a terminal: produced, and read by the worker."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console)
        self._produced: TaskID | None = None
        self._read: TaskID | None = None

    def start(self, total: int) -> None:
        """See replay.Display."""
        self._produced = self._progress.add_task("produced", total=total)
        self._read = self._progress.add_task("read", total=total)
        self._progress.start()

    def show(self, produced: int, read: int) -> None:
        """See replay.Display."""
        if self._produced is not None and self._read is not None:
            self._progress.update(self._produced, completed=produced)
            self._progress.update(self._read, completed=read)

    def close(self) -> None:
        """Leave the terminal as it was; idempotent."""
        self._progress.stop()


class PlainDisplay:
    """A line every few seconds, for logs."""

    def __init__(self, console: Console, *, every_seconds: float = 5.0) -> None:
        self._console = console
        self._every = every_seconds
        self._last = time.monotonic()
        self._total = 0

    def start(self, total: int) -> None:
        """See replay.Display."""
        self._total = total

    def show(self, produced: int, read: int) -> None:
        """See replay.Display."""
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self._console.print(f"replay: {produced:,} of {self._total:,} produced, {read:,} read")

    def close(self) -> None:
        """Nothing to leave behind."""


def print_synthetic_banner(console: Console, simulation: Simulation) -> None:
    """Say that not all of this is real, and how to do without."""
    rule = "=" * 92
    line = simulation.line
    days = f"a day of trade passes in {line.seconds_a_day:,.3g} s"
    when = f"from {line.start:%Y-%m-%d} on, and {days}" if line.speed > 1 else f"as occurring now, and {days}"
    console.print(
        f"{rule}\nSYNTHETIC events flow: {simulation.events_per_second:,g} a second, told {when}.\n"
        f'Each is labelled "synthetic": true, and its ids begin with {simulation.prefix}-.\n'
        "To turn it off, stop with Ctrl-C and start without --simulate. What was added stays in the data:\n"
        f"for data without it, start with another --data-dir.\n{rule}",
        style="bold yellow",
    )


def synthetic_line(figures: Figures) -> str:
    """How the synthetic events get on, in a line."""
    unknown = "?"
    lag = unknown if figures.lag is None else f"{figures.lag:,}"
    applied = unknown if figures.applied_per_second is None else f"{figures.applied_per_second:,.0f}"
    tiers = " ".join(f"{tier} {figures.tiers[tier]:,}" for tier in "ABC" if tier in figures.tiers)
    line = f"synthetic: {figures.sent:,} sent, lag {lag}, {applied} applied a second; tiers {tiers or unknown}"
    if figures.as_of is not None:
        line += f" (as of {figures.as_of})"
    if figures.waiting_for is not None:
        line += f"; waiting for {figures.waiting_for}"
    return line


class LiveLine:
    """One line on a terminal that tells the present."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4)

    def show(self, figures: Figures) -> None:
        """See live.Display."""
        if not self._live.is_started:
            self._live.start()
        self._live.update(Text(synthetic_line(figures), no_wrap=True, overflow="ellipsis"))

    def close(self) -> None:
        """See live.Display."""
        self._live.stop()


class PlainLines:
    """A line now and then, for logs."""

    def __init__(self, console: Console, *, first_seconds: float = 2.0, every_seconds: float = 10.0) -> None:
        self._console = console
        self._every = every_seconds
        self._due = time.monotonic() + first_seconds

    def show(self, figures: Figures) -> None:
        """See live.Display."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._every
            self._console.print(synthetic_line(figures))

    def close(self) -> None:
        """Nothing to leave behind."""


def _events_table(console: Console, status: IngestStatus) -> Table:
    table = _table(console, f"Events (as of {status.as_of})")
    for outcome in OUTCOMES:
        table.add_column(outcome, justify="right")
    table.add_column("customers", justify="right")
    table.add_row(*(f"{status.events[outcome]:,}" for outcome in OUTCOMES), f"{status.customers:,}")
    return table


def _tiers_table(console: Console, tiers: dict[str, Any], currency: str) -> Table:
    table = _table(console, f"Value tiers (computed; net revenue of {_WINDOW} in {currency})")
    for heading in ("tier", "customers", "net revenue", "share"):
        table.add_column(heading, justify="left" if heading == "tier" else "right")
    for row in tiers["tiers"]:
        share = row["share"]
        table.add_row(
            str(row["tier"]),
            f"{row['customers']:,}",
            money(row["net_revenue"]),
            "-" if share is None else f"{float(share):.2%}",
        )
    return table


def _largest_table(console: Console, api: Api, ids: list[str], currency: str) -> Table:
    table = _table(console, "The five largest customers")
    for heading in ("customer", f"net revenue {_WINDOW} ({currency})", "tier", "segment", "service level"):
        table.add_column(heading, justify="right" if heading.startswith("net") else "left")
    answers = {answer["customer_id"]: answer for answer in api.segments(ids)}
    for customer_id in ids:
        answer = answers.get(customer_id)
        if answer is not None:
            table.add_row(
                customer_id,
                money(api.metrics(customer_id)["windows"][_WINDOW]["net_revenue"]),
                str(answer["value_tier"]),
                str(answer["segment"]["name"]),
                str(answer["recommended_service_level"]["name"]),
            )
    return table


def _table(console: Console, title: str) -> Table:
    framed = console.is_terminal
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD if framed else None,
        padding=(0, 2, 0, 0),
    )


def money(amount: str | None) -> str:
    """With thousands set apart, digits untouched.

    >>> money("-1234567.80"), money("16343651"), money(None)
    ('-1,234,567.80', '16,343,651', '-')
    """
    if amount is None:
        return "-"
    whole, point, decimals = amount.partition(".")
    return f"{int(whole):,}{point}{decimals}" if whole != "-0" else amount
