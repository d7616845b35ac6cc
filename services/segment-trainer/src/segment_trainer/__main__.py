"""The command `segment-trainer`."""

import argparse
import json
import sys
import zoneinfo
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from segment_trainer import evaluation, quality, report
from segment_trainer.examples import Question
from segment_trainer.failures import NotPossible
from segment_trainer.reading import EventFile
from segmentation.calendar import instant_of, parse_date
from segmentation.money import MINOR_UNITS

_LONGEST_HORIZON = 3_650


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; a refusal is one line on standard error and exit code 1."""
    chosen = _parser().parse_args(arguments)
    try:
        with EventFile(_say) as events:
            events.load(
                chosen.events,
                rates_file=chosen.rates,
                currency=chosen.currency,
                time_zone=chosen.time_zone,
                now=instant_of(datetime.now(UTC)),  # noqa: TID251 - the command's one look at the clock
            )
            if chosen.command == "quality":
                quality.write(events, chosen.docs, _say)
                return
            comparison = evaluation.compare(events, Question(chosen.cut, chosen.horizon), _say)
            answer = evaluation.answer(events, comparison)
    except NotPossible as refusal:
        sys.exit(f"segment-trainer: {refusal}")
    print(json.dumps(answer, allow_nan=False) if chosen.json else report.text(answer))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="segment-trainer",
        description="Trains models of churn and value on a file of events, and compares them with the naive rule, "
        "RFM quintiles and BG/NBD + Gamma-Gamma.",
    )
    source = argparse.ArgumentParser(add_help=False)
    source.add_argument(
        "--events",
        type=Path,
        required=True,
        metavar="FILE",
        help="events as docs/events.md describes them, one JSON object a line; may be gzipped",
    )
    source.add_argument(
        "--rates", type=Path, metavar="FILE", help="exchange rates, a CSV file with the header currency,day,rate"
    )
    source.add_argument(
        "--currency", type=_currency, metavar="CODE", help="base currency (default: the most frequent one in the file)"
    )
    source.add_argument(
        "--time-zone", type=_time_zone, default="UTC", metavar="ZONE", help="of the business days (default UTC)"
    )
    subcommands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    evaluate = subcommands.add_parser(
        "evaluate",
        parents=[source],
        help="compare forecasts at a cut",
        description="Compares forecasts of churn (no order within the horizon) and of value (net revenue within it), "
        "made from what had occurred before the cut, with what came. Progress goes to standard error.",
    )
    evaluate.add_argument(
        "--cut", type=_date, required=True, metavar="DATE", help="the first day of the horizon; features end before it"
    )
    evaluate.add_argument("--horizon", type=_days, required=True, metavar="DAYS", help="length of the horizon")
    evaluate.add_argument("--json", action="store_true", help="one JSON object, as docs/quality.md explains")
    write = subcommands.add_parser(
        "quality",
        parents=[source],
        help="write docs/quality.md, with plots",
        description="Runs the comparison on several cuts and writes quality.md, and plots below quality/.",
    )
    write.add_argument("--docs", type=Path, required=True, metavar="DIRECTORY", help="where to write it")
    return parser


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
