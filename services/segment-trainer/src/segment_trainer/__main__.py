"""The command `segment-trainer`."""

import argparse
import json
import sys
import zoneinfo
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from segment_trainer import commands, evaluation, quality, report
from segment_trainer.commands import EventsAsked, TrainingAsked
from segment_trainer.examples import Question
from segment_trainer.failures import NotPossible
from segment_trainer.reading import EventFile
from segment_trainer.training import HORIZON_DAYS
from segmentation.calendar import parse_date
from segmentation.errors import SegmentationError
from segmentation.money import MINOR_UNITS

_LONGEST_HORIZON = 3_650
_LONGEST_TEXT = 500
_LAST_VERSION = 2**31 - 1
_DATABASE = "The database is that of DATABASE_URL."


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; a refusal goes to standard error, with exit code 1."""
    chosen = _parser().parse_args(arguments)
    try:
        told = _told(chosen)
    except (NotPossible, SegmentationError) as refusal:
        sys.exit(f"segment-trainer: {refusal}")
    if told:
        print(told)


def _told(chosen: argparse.Namespace) -> str:
    match chosen.command:
        case "quality" | "evaluate":
            return _compared(chosen)
        case "train":
            return commands.train(_training(chosen), _now, _say)
        case "publish":
            return commands.publish(chosen.file, author=chosen.author, note=chosen.note, force=chosen.force)
        case "activate":
            return commands.activate(chosen.version, author=chosen.author, reason=chosen.reason)
        case "rollback":
            return commands.rollback(author=chosen.author, reason=chosen.reason)
        case "list":
            return commands.listing(as_json=chosen.json)
        case "show":
            return commands.show(chosen.version, document=chosen.document, as_json=chosen.json)
        case _:
            return commands.watch(chosen.version, _now, _say, as_json=chosen.json)


def _compared(chosen: argparse.Namespace) -> str:
    with EventFile(_say) as events:
        _events(chosen).load(events, _now)
        if chosen.command == "quality":
            quality.write(events, chosen.docs, _say)
            return ""
        comparison = evaluation.compare(events, Question(chosen.cut, chosen.horizon), _say)
        answer = evaluation.answer(events, comparison)
    return json.dumps(answer, allow_nan=False) if chosen.json else report.text(answer)


def _events(chosen: argparse.Namespace) -> EventsAsked:
    return EventsAsked(chosen.events, chosen.rates, chosen.currency, chosen.time_zone)


def _training(chosen: argparse.Namespace) -> TrainingAsked:
    return TrainingAsked(
        events=None if chosen.database else _events(chosen),
        cut=chosen.cut,
        horizon_days=chosen.horizon,
        in_force=chosen.in_force,
        keep_segments=chosen.keep_segments,
        output=chosen.output,
    )


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the command's one look at the clock


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="segment-trainer",
        description="Models of churn, value and behaviour: compares them with the naive rule, RFM quintiles and "
        "BG/NBD + Gamma-Gamma, trains them, publishes them, puts them in force, and takes them back.",
        epilog="docs/runbooks/models.md says how it goes together. In trouble: `segment-trainer rollback` puts in "
        "force what was so before; `segment-trainer list` shows what is.",
    )
    subcommands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    reading = argparse.ArgumentParser(add_help=False)
    _add_reading(reading)
    _add_comparisons(subcommands, reading)
    _add_train(subcommands, reading)
    _add_models(subcommands)
    return parser


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rates", type=Path, metavar="FILE", help="exchange rates, a CSV file with the header currency,day,rate"
    )
    parser.add_argument(
        "--currency", type=_currency, metavar="CODE", help="base currency (default: the most frequent one in the file)"
    )
    parser.add_argument(
        "--time-zone", type=_time_zone, default="UTC", metavar="ZONE", help="of the business days (default UTC)"
    )


_EVENTS = "events as docs/events.md describes them, one JSON object a line; may be gzipped"


def _add_comparisons(
    subcommands: "argparse._SubParsersAction[argparse.ArgumentParser]", reading: argparse.ArgumentParser
) -> None:
    evaluate = subcommands.add_parser(
        "evaluate",
        parents=[reading],
        help="compare forecasts at a cut",
        description="Compares forecasts of churn (no order within the horizon) and of value (net revenue within it), "
        "made from what had occurred before the cut, with what came. Progress goes to standard error.",
    )
    evaluate.add_argument("--events", type=Path, required=True, metavar="FILE", help=_EVENTS)
    evaluate.add_argument(
        "--cut", type=_date, required=True, metavar="DATE", help="the first day of the horizon; features end before it"
    )
    evaluate.add_argument("--horizon", type=_days, required=True, metavar="DAYS", help="length of the horizon")
    evaluate.add_argument("--json", action="store_true", help="one JSON object, as docs/quality.md explains")
    write = subcommands.add_parser(
        "quality",
        parents=[reading],
        help="write docs/quality.md, with plots",
        description="Runs the comparison on several cuts and writes quality.md, and plots below quality/.",
    )
    write.add_argument("--events", type=Path, required=True, metavar="FILE", help=_EVENTS)
    write.add_argument("--docs", type=Path, required=True, metavar="DIRECTORY", help="where to write it")


def _add_train(
    subcommands: "argparse._SubParsersAction[argparse.ArgumentParser]", reading: argparse.ArgumentParser
) -> None:
    train = subcommands.add_parser(
        "train",
        parents=[reading],
        help="make a model, with its card",
        description="Trains segments, churn and value, measures them at the cut beside the naive rule, RFM, the "
        "classics and the model in force, and writes one JSON document. Nothing is published by that. "
        "Progress goes to standard error.",
    )
    source = train.add_mutually_exclusive_group(required=True)
    source.add_argument("--events", type=Path, metavar="FILE", help=_EVENTS)
    source.add_argument(
        "--database",
        action="store_true",
        help="the customers of the running system, and its model in force; DATABASE_URL says where. --rates, "
        "--currency and --time-zone are then those of the system",
    )
    train.add_argument(
        "--cut", type=_date, metavar="DATE", help="where it is measured (default: the latest whose horizon is over)"
    )
    train.add_argument(
        "--horizon", type=_days, default=HORIZON_DAYS, metavar="DAYS", help=f"to foretell (default {HORIZON_DAYS})"
    )
    train.add_argument(
        "--in-force",
        type=Path,
        metavar="FILE",
        help="the model to hold it against, as `segment-trainer show N --document` prints it (default with "
        "--database: the one in force there)",
    )
    train.add_argument(
        "--keep-segments", action="store_true", help="take over the segments of the model in force as they are"
    )
    train.add_argument(
        "--output", type=Path, default=Path("model.json"), metavar="FILE", help="where to (default model.json)"
    )


def _add_models(subcommands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    publish = subcommands.add_parser(
        "publish",
        help="store a model as the next version",
        description="Stores a model as the next version, unless it is worse than the one in force, unstable, badly "
        f"calibrated, or would rename too many customers. It is not in force by that. {_DATABASE}",
    )
    publish.add_argument("file", type=Path, metavar="FILE", help="what `segment-trainer train` wrote")
    _add_person(publish, reason=False)
    publish.add_argument("--note", type=_sentence, metavar="TEXT", help="what it is for")
    publish.add_argument(
        "--force", type=_sentence, metavar="WHY", help="store it although it is refused; the reasons and this are kept"
    )
    activate = subcommands.add_parser(
        "activate",
        help="put a model in force",
        description=f"Puts a published model in force: workers score everyone by it, in batches. {_DATABASE}",
    )
    activate.add_argument("version", type=_version, metavar="N")
    _add_person(activate, reason=True)
    rollback = subcommands.add_parser(
        "rollback",
        help="go back to the model before, or to none",
        description="Puts in force what was so before the model that is, or no model; asked again it goes back "
        f"further. {_DATABASE}",
    )
    _add_person(rollback, reason=True)
    listing = subcommands.add_parser(
        "list", help="the models, and when which was put in force", description=f"Lists the models. {_DATABASE}"
    )
    listing.add_argument("--json", action="store_true", help="one JSON object")
    show = subcommands.add_parser(
        "show",
        help="a model's card",
        description=f"Shows what a model was made from, and how good it is. {_DATABASE}",
    )
    show.add_argument("version", type=_version, metavar="N")
    form = show.add_mutually_exclusive_group()
    form.add_argument("--document", action="store_true", help="the document itself, as it was published")
    form.add_argument("--json", action="store_true", help="the card as JSON")
    drift = subcommands.add_parser(
        "drift",
        help="whether today's customers still look like those of the model",
        description="Population stability index of each feature and of the scores: today's customers beside those that "
        f"the model was made from. {_DATABASE}",
    )
    drift.add_argument("version", type=_version, nargs="?", metavar="N", help="default: the one in force")
    drift.add_argument("--json", action="store_true", help="one JSON object")


def _add_person(parser: argparse.ArgumentParser, *, reason: bool) -> None:
    parser.add_argument("--author", type=_sentence, required=True, metavar="NAME", help="who does it; is kept")
    if reason:
        parser.add_argument("--reason", type=_sentence, required=True, metavar="WHY", help="is kept")


def _sentence(text: str) -> str:
    if not text.strip() or len(text) > _LONGEST_TEXT or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r}: 1 to {_LONGEST_TEXT} printable characters are expected")
    return text


def _version(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _LAST_VERSION):
        raise argparse.ArgumentTypeError(f"{text!r}: the number of a model is expected, such as 3")
    return int(text)


def _date(text: str) -> date:
    found = parse_date(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: a date such as 2010-12-01 is expected")
    return found


def _days(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _LONGEST_HORIZON):
        raise argparse.ArgumentTypeError(f"{text!r}: a number of days from 1 to {_LONGEST_HORIZON} is expected")
    return int(text)


def _currency(text: str) -> str:
    if text not in MINOR_UNITS:
        raise argparse.ArgumentTypeError(f"{text!r}: an ISO 4217 code such as EUR is expected")
    return text


def _time_zone(text: str) -> str:
    try:
        zoneinfo.ZoneInfo(text)
    except (ValueError, zoneinfo.ZoneInfoNotFoundError, OSError):
        raise argparse.ArgumentTypeError(f"{text!r}: an IANA time zone such as Europe/Berlin is expected") from None
    return text


if __name__ == "__main__":
    main()
