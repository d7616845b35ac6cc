"""The command `segment-api`."""

import argparse
import asyncio
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from segment_api import commands, wiring
from segment_api.settings import ApiSettings
from segmentation.access import LONGEST_NAME, Action, Scope
from segmentation.errors import SegmentationError
from segmentation.settings import HouseSettings, help_text

_SPAN = re.compile(r"([1-9][0-9]{0,5})([mhd])", re.ASCII)
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_LONGEST = timedelta(days=3_650)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; a refusal is one line on standard error and exit code 1."""
    chosen = _parser().parse_args(arguments)
    try:
        match chosen.command:
            case "run":
                if code := wiring.run(ApiSettings.load()):
                    sys.exit(code)
            case "audit":
                settings = HouseSettings.load()
                asked = {"action": chosen.action, "customer_id": chosen.customer, "limit": chosen.limit}
                print(asyncio.run(commands.list_audit(settings, **asked)))
            case _:
                _keys(chosen, HouseSettings.load())
    except SegmentationError as error:
        sys.exit(f"segment-api: {error}")


def _keys(chosen: argparse.Namespace, settings: HouseSettings) -> None:
    now = datetime.now(UTC)  # noqa: TID251 - the commands' one look at the clock
    match chosen.what:
        case "create":
            key, said = asyncio.run(
                commands.create_key(
                    settings,
                    name=chosen.name,
                    scopes=chosen.scopes,
                    expires_at=None if chosen.expires is None else now + chosen.expires,
                    requests_per_second=chosen.rate,
                    reason=chosen.reason,
                )
            )
        case "rotate":
            key, said = asyncio.run(
                commands.rotate_key(settings, chosen.id, overlap=chosen.overlap, reason=chosen.reason, now=now)
            )
        case "revoke":
            print(asyncio.run(commands.revoke_key(settings, chosen.id, reason=chosen.reason, now=now)))
            return
        case _:
            print(asyncio.run(commands.list_keys(settings, now=now, as_json=chosen.json)))
            return
    # The key alone on standard output, so that it can be piped where it belongs.
    print(said, file=sys.stderr)
    print(key)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="segment-api",
        description="Serves each customer's current segment, value tier and recommended service level over HTTP.",
    )
    subcommands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    subcommands.add_parser(
        "run",
        help="serve until stopped",
        description="Serves until SIGTERM or Ctrl-C. The documentation is at /docs, its source at /openapi.json.",
        epilog=f"settings, from the environment:\n{help_text(ApiSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_keys(subcommands.add_parser("keys", help="make, list, revoke and rotate API keys", description=_ABOUT_KEYS))
    audit = subcommands.add_parser(
        "audit",
        help="who changed what by hand",
        description="Shows the latest changes made by hand, one JSON object a line, newest first; as GET /audit does.",
        epilog=f"settings, from the environment:\n{help_text(HouseSettings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    audit.add_argument("--action", type=Action, choices=list(Action), help="only changes of one kind")
    audit.add_argument("--customer", metavar="ID", help="only those about one customer")
    audit.add_argument("--limit", type=_limit, default=100, metavar="N", help="how many (default 100)")
    return parser


_ABOUT_KEYS = (
    "A key is for one program or person and has the scopes that it needs: read (look at customers, tiers, policies), "
    "dispatch (rank orders; includes read), ingest (send events), operate (overrides, dead letters, replay, ingestion; "
    "includes read), admin (everything). Only a digest is kept. A revoked key is refused within 5 seconds."
)


def _add_keys(parser: argparse.ArgumentParser) -> None:
    settings = f"settings, from the environment:\n{help_text(HouseSettings)}"
    what = parser.add_subparsers(dest="what", required=True, metavar="WHAT")

    def add(name: str, summary: str, about: str) -> argparse.ArgumentParser:
        return what.add_parser(
            name,
            help=summary,
            description=about,
            epilog=settings,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    create = add("create", "make a key", "Makes a key and prints it, once, on standard output.")
    create.add_argument("--name", type=_name, required=True, help="who or what it is for")
    create.add_argument(
        "--scopes", type=_scopes, required=True, metavar="SCOPE[,SCOPE]", help=f"some of {', '.join(Scope)}"
    )
    create.add_argument("--expires", type=_span, metavar="SPAN", help="after which it ends, as 90d, 12h or 30m")
    create.add_argument(
        "--rate", type=_rate, metavar="N", help="requests a second it may make, instead of RATE_LIMIT; 0: any"
    )
    create.add_argument("--reason", help="kept in the audit trail")
    listing = add("list", "show all keys", "Shows every key there ever was, with its state and last use; no secret.")
    listing.add_argument("--json", action="store_true", help="as JSON")
    revoke = add("revoke", "end a key", "Ends a key for good; every process refuses it within 5 seconds.")
    revoke.add_argument("id", help="as listed")
    revoke.add_argument("--reason", help="kept in the audit trail")
    rotate = add(
        "rotate",
        "make a key in the place of another",
        "Makes a key of the same name, scopes and limit and prints it; the old one goes on for the overlap.",
    )
    rotate.add_argument("id", help="of the old one, as listed")
    rotate.add_argument(
        "--overlap", type=_span, default=timedelta(hours=24), metavar="SPAN", help="as 90m, 24h or 7d (default 24h)"
    )
    rotate.add_argument("--reason", help="kept in the audit trail")


def _name(text: str) -> str:
    if not 0 < len(text) <= LONGEST_NAME or not text.isprintable():
        raise argparse.ArgumentTypeError(f"1 to {LONGEST_NAME} printable characters are expected")
    return text


def _scopes(text: str) -> list[Scope]:
    wanted = [word.strip() for word in text.split(",")]
    unknown = [word for word in wanted if word not in list(Scope)]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no scope; some of {', '.join(Scope)} are expected")
    return [scope for scope in Scope if scope in wanted]


def _span(text: str) -> timedelta:
    match = _SPAN.fullmatch(text)
    span = int(match[1]) * _UNITS[match[2]] if match else _LONGEST * 2
    if span > _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r}: a span such as 90d, 12h or 30m is expected, ten years at most")
    return span


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1_000_000:  # noqa: PLR2004 - as RATE_LIMIT
        raise argparse.ArgumentTypeError(f"{text!r}: requests a second are expected, 0 to 1000000")
    return rate


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 100_000:  # noqa: PLR2004 - what fits a screen
        raise argparse.ArgumentTypeError(f"{text!r}: a number of entries is expected, 1 to 100000")
    return int(text)


if __name__ == "__main__":
    main()
