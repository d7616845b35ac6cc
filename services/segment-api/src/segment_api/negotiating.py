"""What form an answer takes: `Accept` against what there is (RFC 9110, section 12.5.1); NDJSON where JSON is read."""

import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from segment_api.problems import InvalidField, ProblemAnswer

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def choose_media_type(accept: str | None, offered: Sequence[str]) -> str:
    """The media type wanted most; the first one offered where none of them is wanted more.

    >>> choose_media_type("text/csv;q=0.5, application/x-ndjson", ("application/json", "application/x-ndjson"))
    'application/x-ndjson'
    """
    wanted = dict[str, float]()
    for item in (accept or "").split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        wanted[kind] = max(_quality(parameters), wanted.get(kind, 0.0))

    def how_much(media_type: str) -> float:
        group = media_type.partition("/")[0]
        return next((wanted[each] for each in (media_type, f"{group}/*", "*/*") if each in wanted), 0.0)

    return max(offered, key=how_much)


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return 0.0
            return quality if 0 <= quality <= 1 else 0.0
    return 1.0


def media_type_of(content_type: str | None) -> str:
    """The media type of a body, without its parameters."""
    return (content_type or "").partition(";")[0].strip().lower()


class NdjsonIdsRoute(APIRoute):
    """A route whose JSON body `{"customer_ids": [...]}` may also come as NDJSON: a line for each.

    What follows reads it as if it had come as JSON, so there is one check of what is in it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        read_json = super().get_route_handler()

        async def read_either(request: Request) -> Response:
            if media_type_of(request.headers.get("content-type")) == "application/x-ndjson":
                request = _AsJson(request, {"customer_ids": _ids(await request.body())})
            return await read_json(request)

        return read_either


class _AsJson(Request):
    """A request whose body has been read already, and understood."""

    def __init__(self, request: Request, read: Any) -> None:  # noqa: ANN401 - any JSON value
        headers = [(name, value) for name, value in request.scope["headers"] if name.lower() != b"content-type"]
        super().__init__({**request.scope, "headers": [*headers, (b"content-type", b"application/json")]})
        self._read = read

    async def body(self) -> bytes:
        return b"{}"  # not empty, and not looked at

    async def json(self) -> Any:  # noqa: ANN401 - any JSON value
        return self._read


def _ids(body: bytes) -> list[Any]:
    found: list[Any] = []
    for number, line in enumerate(body.removeprefix(_BYTE_ORDER_MARK).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            read = json.loads(line)
        except (ValueError, RecursionError):  # undecodable bytes are a ValueError, too
            raise _refused(number) from None
        customer_id = read.get("customer_id") if isinstance(read, dict) else read
        if not isinstance(customer_id, str):
            raise _refused(number)
        found.append(customer_id)
    return found


def _refused(number: int) -> ProblemAnswer:
    problem = 'a JSON string such as "C-1042", or an object with a customer_id, is expected on each line'
    wrong = InvalidField(field=f"body.line {number}", problem=problem)
    return ProblemAnswer(422, f"{wrong.field}: {wrong.problem}", errors=[wrong])
