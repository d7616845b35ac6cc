"""The command `ingest-worker`."""

import argparse
import asyncio
import contextlib
import gc
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from ingest_worker import commands, telemetry, wiring
from ingest_worker.settings import WorkerSettings
from segmentation.errors import SegmentationError
from segmentation.events import RejectReason
from segmentation.outcomes import Partition
from segmentation.settings import HouseSettings, help_text

_GREATEST_PARTITION = 2**31 - 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; a refusal is one line on standard error and exit code 1."""
    chosen = _parser().parse_args(arguments)
    try:
        match chosen.command:
            case "run":
                telemetry.start_logging()
                # A batch makes many objects that live as long as it: collecting among them again and again finds
                # nothing, and takes a tenth of the time.
                gc.set_threshold(100_000, 50, 100)
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    runner.run(wiring.run(WorkerSettings.load()))
            case "load-rates":
                print(asyncio.run(commands.load_rates(HouseSettings.load(), chosen.file)))
            case "replay":
                reason = None if chosen.reason == "any" else chosen.reason
                now = datetime.now(UTC)  # noqa: TID251 - the command's one look at the clock
                print(asyncio.run(commands.replay(HouseSettings.load(), chosen.id or [], reason, now)))
            case "snapshot":
                with _interrupted("no longer waiting; the full snapshot stays asked for"):
                    print(asyncio.run(commands.snapshot(HouseSettings.load(), wait=not chosen.no_wait)))
            case "resume":
                print(asyncio.run(commands.resume(HouseSettings.load(), chosen.partition)))
            case _:
                print(asyncio.run(commands.reposition(HouseSettings.load())))
    except SegmentationError as error:
        sys.exit(f"ingest-worker: {error}")


@contextlib.contextmanager
def _interrupted(sentence: str) -> Iterator[None]:
    """Ctrl-C ends the command with a sentence."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(f"ingest-worker: {sentence}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ingest-worker",
        description="Consumes order, return and complaint events from Kafka into PostgreSQL, keeps every customer's "
        "rolling metrics, and keeps the tiers of all customers exact.",
    )
    subcommands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    subcommands.add_parser(
        "run",
        help="consume events until stopped",
        description="Consumes events until SIGTERM or Ctrl-C. Start as many as there is work for: they share the "
        "partitions, and one of them keeps the tiers.",
        epilog=f"settings, from the environment:\n{help_text(WorkerSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    load_rates = subcommands.add_parser(
        "load-rates",
        help="load dated exchange rates from a CSV file",
        description="Loads exchange rates. The file has the header currency,day,rate: how many units of the base "
        "currency one unit of the currency is worth from that day on. Rates that are there already are replaced; "
        "events applied before keep the rate they were converted at.",
        epilog=f"settings, from the environment:\n{help_text(HouseSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    load_rates.add_argument("file", type=Path, metavar="FILE", help="the CSV file")
    replay = subcommands.add_parser(
        "replay",
        help="read rejected messages again, after what was wrong is mended",
        description="Reads rejected messages again: by id (GET /dead-letters lists them), or all that are still "
        "rejected for a reason. What succeeds moves from rejected to its new outcome; the others stay, with the reason "
        "they have now. Workers may run meanwhile.",
        epilog=f"settings, from the environment:\n{help_text(HouseSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = replay.add_mutually_exclusive_group(required=True)
    which.add_argument("--id", type=int, action="append", metavar="N", help="one dead letter; may be given repeatedly")
    which.add_argument("--reason", choices=["any", *RejectReason], help="all that are still rejected for this reason")
    snapshot = subcommands.add_parser(
        "snapshot",
        help="have it sent to the topic of changes where everyone stands",
        description="Asks for a full snapshot: one message for each customer on the topic of changes, between begin "
        "and end markers, so that whoever follows the topic can reconcile. The running workers make it, beside live "
        "changes; this command shows how far it is and ends when it is done. Interrupting it stops the waiting only.",
        epilog=f"settings, from the environment:\n{help_text(HouseSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    snapshot.add_argument("--no-wait", action="store_true", help="ask for it and return at once")
    resume = subcommands.add_parser(
        "resume",
        help="let a partition go on that halted because too much of it was rejected",
        description="Lets a halted partition go on after the message at which its reject budget was exceeded, with a "
        "budget that begins anew; a running worker picks it up within seconds. The usual cure: mend the deploy, "
        "resume, then read what was rejected again with `ingest-worker replay --reason ...`. Whatever is still wrong "
        "halts the partition again.",
        epilog=f"settings, from the environment:\n{help_text(HouseSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = resume.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "partition", type=_partition, nargs="?", metavar="TOPIC/PARTITION", help="such as logistics.orders/3"
    )
    where.add_argument("--all", action="store_true", help="every partition that stands halted")
    reposition = subcommands.add_parser(
        "reposition",
        help="read every partition from its beginning, after the broker began anew",
        description="Forgets how far every partition was read. For a Kafka that was set up anew under the same "
        "name: without this the worker refuses positions that the broker does not have. Events that were applied "
        "before are recognised and count as duplicates. Stop the workers first.",
        epilog=f"settings, from the environment:\n{help_text(HouseSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    reposition.add_argument("--to", choices=["earliest"], required=True, help="where reading begins")
    return parser


def _partition(text: str) -> Partition:
    topic, _, number = text.rpartition("/")
    if not topic or not number.isascii() or not number.isdigit() or int(number) > _GREATEST_PARTITION:
        raise argparse.ArgumentTypeError(f"{text!r}: TOPIC/PARTITION is expected, such as logistics.orders/3")
    return Partition(topic, int(number))


if __name__ == "__main__":
    main()
