"""The command `ingest-worker`."""

import argparse
import asyncio
import contextlib
import gc
import sys
from collections.abc import Coroutine, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import uvloop

from ingest_worker import commands, duty_process, erasing, telemetry, upkeep, wiring
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
                _run(wiring.run(WorkerSettings.load()))
            case duty_process.COMMAND:
                duty_process.end_with_standard_input()
                _run(wiring.run_duties(WorkerSettings.load()))
            case "load-rates":
                print(asyncio.run(commands.load_rates(HouseSettings.load(), chosen.file)))
            case "replay":
                reason = None if chosen.reason == "any" else chosen.reason
                print(asyncio.run(commands.replay(HouseSettings.load(), chosen.id or [], reason, _now())))
            case "snapshot":
                with _interrupted("no longer waiting; the full snapshot stays asked for"):
                    print(asyncio.run(commands.snapshot(HouseSettings.load(), wait=not chosen.no_wait)))
            case "resume":
                print(asyncio.run(commands.resume(HouseSettings.load(), chosen.partition)))
            case "restored":
                print(asyncio.run(commands.restored(HouseSettings.load())))
            case "erase":
                told = erasing.erase(HouseSettings.load(), chosen.customer, author=chosen.author, reason=chosen.reason)
                lines, all_there = asyncio.run(told)
                print(lines)
                sys.exit(0 if all_there else 1)
            case "erasures":
                settings = HouseSettings.load()
                doing = (
                    erasing.apply_erasures(settings, chosen.apply) if chosen.apply else erasing.list_erasures(settings)
                )
                print(asyncio.run(doing))
            case "check":
                sys.exit(1 if asyncio.run(upkeep.check(HouseSettings.load(), _now)) else 0)
            case "rebuild":
                accepted = chosen.accept_missing_events
                sys.exit(1 if asyncio.run(upkeep.rebuild(HouseSettings.load(), _now, accept_missing=accepted)) else 0)
            case "drop-events":
                print(asyncio.run(upkeep.drop_events(HouseSettings.load(), chosen.before, _now)))
            case _:
                print(asyncio.run(commands.reposition(HouseSettings.load())))
    except SegmentationError as error:
        sys.exit(f"ingest-worker: {error}")


def _run(work: Coroutine[None, None, None]) -> None:
    telemetry.start_logging()
    # A batch makes many objects that live as long as it: collecting among them again and again finds nothing, and takes
    # a tenth of the time.
    gc.set_threshold(100_000, 50, 100)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


@contextlib.contextmanager
def _interrupted(sentence: str) -> Iterator[None]:
    """Ctrl-C ends the command with a sentence."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(f"ingest-worker: {sentence}")


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the commands' one look at the clock


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
    # Without a help it is not listed: `run` starts it.
    subcommands.add_parser(duty_process.COMMAND, description="What `ingest-worker run` starts beside itself.")
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
    subcommands.add_parser(
        "restored",
        help="go on with a database that was restored to an earlier point",
        description="Lets announced changes and dead letters go on with numbers that were never given out before, and "
        "asks for a full snapshot: whoever follows the topics drops what is not newer than what they have, and would "
        "drop everything that a restored database announces. Run it once, with the workers stopped, before they "
        "start on the restored database; docs/runbooks/ingestion.md says what else to do.",
        epilog=f"settings, from the environment:\n{help_text(HouseSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
    erase = subcommands.add_parser(
        "erase",
        help="erase customers and everything derived from them, for good",
        description="Erases customers as DELETE /customers/{customer_id} does, each in one transaction: raw events, "
        "orders, figures, assessments, history, announcements, what refused messages said. Later messages that name "
        "them are suppressed. Workers may run meanwhile. The exit code is 1 if one of them was never heard of. What to "
        "do beside it: docs/runbooks/erasure.md.",
        epilog=f"settings, from the environment:\n{help_text(HouseSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    erase.add_argument("customer", nargs="+", metavar="CUSTOMER_ID", help="whom")
    erase.add_argument("--author", metavar="WHO", help="who has them erased; kept, so no customer may be named in it")
    erase.add_argument("--reason", metavar="WHY", help="why; kept, so no customer may be named in it")
    erasures = subcommands.add_parser(
        "erasures",
        help="list who was erased, by hashes; with --apply, do a list again",
        description="Prints everybody ever erased as CSV: the keyed hash of the id, and when. Keep the list beside the "
        "backups, and do it again with --apply after a restore: it makes the hashes known, and erases whoever of them "
        "the backup brought back. It needs the same ERASURE_KEY.",
        epilog=f"settings, from the environment:\n{help_text(HouseSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    erasures.add_argument("--apply", type=Path, metavar="FILE", help="a list that this command printed")
    subcommands.add_parser(
        "check",
        help="compare everything derived with a recount of the raw events",
        description="Counts all raw events again and prints every difference to what is stored: orders, retractions, "
        "profiles, day buckets, assessments, counters, computed tiers. Changes nothing and holds nobody up; workers "
        "may run meanwhile. The exit code is 1 if there is a difference. What to do then: docs/runbooks/rebuild.md.",
        epilog=f"settings, from the environment:\n{help_text(HouseSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rebuild = subcommands.add_parser(
        "rebuild",
        help="replace whatever differs from a recount of the raw events",
        description="Counts all raw events again, on top of what dropped ones counted, and replaces what is stored "
        "otherwise, printing each difference. Workers may run meanwhile: a few customers at a time are held for a "
        "moment. It can be stopped at any point and started again. Since when a tier or segment has held is no matter "
        "of events and stays. The exit code is 1 if something could not be mended.",
        epilog=f"settings, from the environment:\n{help_text(HouseSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rebuild.add_argument(
        "--accept-missing-events",
        action="store_true",
        help="go on although applied events are missing, and take back what they counted",
    )
    drop = subcommands.add_parser(
        "drop-events",
        help="drop raw events that are older than a day; what they counted stays",
        description="Deletes raw events whose business day, and the day they occurred on, are before DAY. Every figure "
        "stays as it is. Repeats of dropped events are no longer recognised as duplicates: they are counted as applied "
        "again, but change no figure. The bytes are gone: they are in a backup or nowhere. Workers may run meanwhile. "
        "RETAIN_EVENTS_DAYS makes the workers do the same by themselves.",
        epilog=f"settings, from the environment:\n{help_text(HouseSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    drop.add_argument(
        "--before", type=date.fromisoformat, required=True, metavar="DAY", help="the first day to keep, as 2025-01-31"
    )
    return parser


def _partition(text: str) -> Partition:
    topic, _, number = text.rpartition("/")
    if not topic or not number.isascii() or not number.isdigit() or int(number) > _GREATEST_PARTITION:
        raise argparse.ArgumentTypeError(f"{text!r}: TOPIC/PARTITION is expected, such as logistics.orders/3")
    return Partition(topic, int(number))


if __name__ == "__main__":
    main()
