"""Waiting that ends at once when the worker is to stop."""

import asyncio


async def pause(seconds: float, *, unless: asyncio.Event) -> None:
    """Waits for a time, or until the event is set."""
    try:
        async with asyncio.timeout(seconds):
            await unless.wait()
    except TimeoutError:
        return
