"""The `local-stack` command, wired: here alone the process environment is read."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from datetime import date
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from local_stack import cli
from local_stack.stack import Questions
from segmentation.storage.engine import create_engine
from segmentation.storage.reader import largest_customers, rates_in_force

Answer = TypeVar("Answer")


async def _largest(database_url: str) -> list[str]:
    """The ids of the five largest customers by 365-day net revenue, largest first."""

    async def ask(engine: AsyncEngine) -> list[str]:
        return list(await largest_customers(engine, limit=5))

    return await _asked(database_url, ask)


async def _rates(database_url: str, day: date) -> dict[str, float]:
    """What a unit of each currency with a rate on a day is worth."""
    return await _asked(database_url, lambda engine: rates_in_force(engine, day))


async def _asked(database_url: str, ask: Callable[[AsyncEngine], Awaitable[Answer]]) -> Answer:
    engine = create_engine(database_url, application_name="local-stack", pool_size=1)
    try:
        return await ask(engine)
    finally:
        await engine.dispose()


def main() -> int:
    """Run the command with this process's arguments and environment."""
    return cli.run(None, os.environ, Questions(_largest, _rates))  # noqa: TID251 - read once, here


if __name__ == "__main__":
    sys.exit(main())
