"""The command `segment-api`."""

import argparse
import sys
from collections.abc import Sequence

from segment_api import wiring
from segment_api.settings import ApiSettings
from segmentation.errors import SegmentationError
from segmentation.settings import help_text


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; a refusal is one line on standard error and exit code 1."""
    _parser().parse_args(arguments)
    try:
        wiring.run(ApiSettings.load())
    except SegmentationError as error:
        sys.exit(f"segment-api: {error}")


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
    return parser


if __name__ == "__main__":
    main()
