"""The `local-stack` command, wired: here alone the process environment is read."""

from __future__ import annotations

import os
import sys

from local_stack import cli
from segmentation.storage.engine import create_engine
from segmentation.storage.reader import largest_customers


async def _largest(database_url: str) -> list[str]:
    """The ids of the five largest customers by 365-day net revenue, largest first."""
    engine = create_engine(database_url, application_name="local-stack", pool_size=1)
    try:
        return list(await largest_customers(engine, limit=5))
    finally:
        await engine.dispose()


def main() -> int:
    """Run the command with this process's arguments and environment."""
    return cli.run(None, os.environ, _largest)  # noqa: TID251 - read once, here


if __name__ == "__main__":
    sys.exit(main())
