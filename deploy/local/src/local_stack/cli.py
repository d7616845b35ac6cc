"""The command line: `local-stack run`.

Law: whatever prevents the start is said on standard error in plain words, with exit code 1 and without a traceback; a
stop that the user asked for is no failure.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from local_stack.failures import Interrupted, StackFailed
from local_stack.live import DEFAULT_SEED
from local_stack.stack import BUNDLED_EVENTS, Options, Questions, Stack

_PLAIN_WIDTH = 120
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_HIGHEST_PORT = 65_535


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(
        prog="local-stack",
        description="Tierline on one machine: PostgreSQL, Kafka, the worker and the API, on loopback.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="start everything, replay the bundled events, stay up until Ctrl-C",
        description=(
            "Starts a real PostgreSQL and a real Kafka, migrates, starts the worker and the API, replays the bundled "
            "events, and prints what came out and where to look. Ctrl-C stops everything and keeps the data, so that "
            "the next start goes on from there. DATABASE_URL and KAFKA_BOOTSTRAP_SERVERS put servers of your own in "
            "place of either; every other setting of the services reaches them through the environment."
        ),
    )
    run.add_argument("--no-replay", action="store_true", help="start without replaying events")
    run.add_argument(
        "--simulate",
        type=_rate,
        metavar="N",
        help=(
            'then add N live synthetic events a second, labelled "synthetic": true, with ids that begin with SIM-; '
            "they stay in the data (--data-dir keeps them apart), and a start without --simulate adds no more"
        ),
    )
    run.add_argument(
        "--seed",
        type=_seed,
        default=DEFAULT_SEED,
        metavar="N",
        help="what --simulate draws chance from: the same seed gives the same trade (default: %(default)s)",
    )
    run.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="the events to replay, one JSON object a line, plain or .gz (default: bundled)",
    )
    run.add_argument(
        "--data-dir",
        type=Path,
        default=Path(".stack"),
        metavar="DIR",
        help="where everything is kept (default: ./.stack)",
    )
    run.add_argument(
        "--broker",
        choices=("kafka", "in-process"),
        help=(
            "kafka: a real one, needs Java 17 and Maven; in-process: a stand-in for looking around, needs neither "
            "(default: kafka, and the stand-in where it cannot be had)"
        ),
    )
    run.add_argument(
        "--http-port", type=_port, metavar="N", help="the API's port (default: HTTP_PORT, else 8080, else a free one)"
    )
    run.add_argument("--postgres-port", type=_port, metavar="N", help="PostgreSQL's port (default: a free one)")
    run.add_argument("--kafka-port", type=_port, metavar="N", help="Kafka's port (default: a free one)")
    run.add_argument(
        "--partitions",
        type=_count,
        default=4,
        metavar="N",
        help="partitions of each topic that is created (default: 4)",
    )
    return top


def run(arguments: Sequence[str] | None, environment: Mapping[str, str], questions: Questions) -> int:
    """Run the command; the exit code."""
    chosen = parser().parse_args(arguments)
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    stopping = threading.Event()
    for number in _STOP_SIGNALS:
        signal.signal(number, lambda *_: stopping.set())
    try:
        repository = find_repository()
        bundled = repository / BUNDLED_EVENTS
        options = Options(
            data_directory=chosen.data_dir,
            events=None if chosen.no_replay else (chosen.data or bundled).absolute(),
            broker=chosen.broker,
            http_port=chosen.http_port,
            postgres_port=chosen.postgres_port,
            kafka_port=chosen.kafka_port,
            partitions=chosen.partitions,
            simulate=chosen.simulate,
            seed=chosen.seed,
        )
        Stack(
            options,
            environment=environment,
            repository=repository,
            console=console,
            stopping=stopping,
            questions=questions,
        ).run()
    except Interrupted:
        return 0
    except StackFailed as failed:
        return _fail(str(failed))
    except OSError as failed:
        # a full disk above all, wherever it is met
        where = f" ({failed.filename})" if failed.filename else ""
        return _fail(f"The stack cannot go on: {failed.strerror or failed}{where}; mend that and start again.")
    return 0


def find_repository() -> Path:
    """The checkout, with the migrations and the bundled events: around this file, else around the working directory."""
    for start in (Path(__file__).resolve(), Path.cwd()):
        for directory in (start, *start.parents):
            if (directory / "migrations" / "alembic.ini").is_file():
                return directory
    raise StackFailed(
        "There is no checkout of Tierline here (no migrations/alembic.ini): start it in one, with `make run`."
    )


def _fail(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 1


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) <= _HIGHEST_PORT:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 1 to {_HIGHEST_PORT}")


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no count: give a number from 1")


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if math.isfinite(rate) and rate > 0:
        return rate
    raise argparse.ArgumentTypeError(f"{text!r} is no pace: give a number of events a second above 0, such as 200")


def _seed(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no seed: give a whole number from 0")
