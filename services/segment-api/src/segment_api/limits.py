"""Limits on the size of requests, kept before anything reads them."""

import contextlib

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segment_api.problems import ProblemAnswer, answer

LARGEST_BODY_BYTES = 4 * 1024 * 1024
"""10,000 customer ids of 64 characters are 680 kB, as many orders to rank with the longest ids 2.6 MB."""

LONGEST_TARGET = 16_384
"""Of path and query, in bytes."""

LARGEST_HEADERS = 32_768
"""Of all headers together, in bytes."""


class LimitHead:
    """ASGI middleware: answers 414 to addresses and 431 to headers that are too long for anything we serve."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            target = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
            if target > LONGEST_TARGET:
                problem = ProblemAnswer(414, f"Path and query have more than {LONGEST_TARGET} bytes.")
                # The problem names the path, which is too long to be told.
                await answer(Request({**scope, "raw_path": b""}), problem)(scope, receive, send)
                return
            if sum(len(name) + len(value) for name, value in scope["headers"]) > LARGEST_HEADERS:
                problem = ProblemAnswer(431, f"The headers have more than {LARGEST_HEADERS} bytes.")
                await answer(Request(scope), problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)


LARGER_BODIES_BYTES = {"/events": 8 * 1024 * 1024}
"""A thousand events of 8 kB each, or one that is too large among many, which is for the ledger to say."""


class LimitBody:
    """ASGI middleware: answers 413 as soon as a body is known to be too large."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        largest = LARGER_BODIES_BYTES.get(scope["path"], LARGEST_BODY_BYTES)
        problem = ProblemAnswer(413, f"The body has more than {largest} bytes; send less at a time.")
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > largest:
            await answer(Request(scope), problem)(scope, receive, send)
            return
        received = 0

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > largest:
                raise problem
            return message

        async def guarded_send(message: Message) -> None:
            # Whatever the application makes of the exception above, the answer is ours.
            if received <= largest:
                await send(message)

        with contextlib.suppress(ProblemAnswer):
            await self._app(scope, counting_receive, guarded_send)
        if received > largest:
            await answer(Request(scope), problem)(scope, receive, send)
