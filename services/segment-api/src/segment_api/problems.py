"""Errors as RFC 9457 problem details: one table says which, one shape carries them all."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from segment_api.observing import complete_headers
from segmentation.errors import FilterInvalid, NotReady, StoreUnavailable

MEDIA_TYPE = "application/problem+json"
_RETRY_SECONDS = "2"
_METHOD_NOT_ALLOWED = 405
_UNREADABLE_BODY = "There was an error parsing the body"
"""What FastAPI says of a body that its parser gave up on."""


class InvalidField(BaseModel):
    """What is wrong with one part of a request."""

    field: str = Field(description="Where it is: the parameter, or the path into the body.")
    problem: str = Field(description="What is wrong, and what is expected.")


class Problem(BaseModel):
    """An error answer (RFC 9457)."""

    type: str = Field("about:blank", description="Kind of problem; `about:blank` says no more than the title.")
    title: str = Field(description="The HTTP status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened here, and what to do about it.")
    instance: str = Field(description="The path that was asked for.")
    errors: list[InvalidField] | None = Field(None, description="Each part of the request that is wrong, if any.")
    request_id: str | None = Field(None, description="Of this request, as in `X-Request-ID` and in the service's log.")


class ProblemAnswer(Exception):
    """Ends a request with a problem."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: list[InvalidField] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})


_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    413: "Content Too Large",
    414: "URI Too Long",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of the problems that a route can answer with."""
    return {
        status: {
            "description": _DESCRIPTIONS[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": _EXAMPLES[status]}},
        }
        for status in statuses
    }


def _example(status: int, detail: str, instance: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {
        "type": "about:blank",
        "title": _TITLES[status],
        "status": status,
        "detail": detail,
        "instance": instance,
        **more,
    }


_BAD_LIMIT = {"field": "query.limit", "problem": "Input should be greater than or equal to 1"}
_EXAMPLES = {
    401: _example(401, "A key is needed: send Authorization: Bearer <key>.", "/tiers"),
    403: _example(403, "The scope operate is needed here and is not among those of this key.", "/dead-letters"),
    404: _example(404, "No customer 'C-1042' is known.", "/customers/C-1042/segment"),
    409: _example(409, "Version 2 is active and never changes; put the text under version 4.", "/policies/2"),
    410: _example(410, "query.after: changes after 17 were dropped for their age, ...", "/changes"),
    413: _example(413, "The body has more than 4194304 bytes; send less at a time.", "/customers/segments"),
    414: _example(414, "Path and query have more than 16384 bytes.", ""),
    422: _example(422, "query.limit: Input should be greater than or equal to 1", "/dead-letters", errors=[_BAD_LIMIT]),
    429: _example(429, "Another dry run is at work here; try again when it has ended.", "/policies/dry-run"),
    431: _example(431, "The headers have more than 32768 bytes.", "/tiers"),
    503: _example(503, "The database is out of reach at the moment; try again shortly.", "/tiers"),
}
_SAID = {
    404: "There is nothing at this path; /docs lists what there is.",
    405: "This path does not take that method; /docs lists what there is.",
}
_DESCRIPTIONS = {
    401: "No key or token was sent, or it is not valid; `WWW-Authenticate` says what is expected.",
    403: "The key or token has not the scope that is needed; `detail` names it.",
    404: "Nothing of that name is known, or the id is malformed.",
    409: "It does not fit what stands; `detail` says what would.",
    410: "It was there and is kept no more; `detail` says how to go on.",
    413: "The body is too large.",
    414: "Path and query are too long; `detail` says how long they may be.",
    422: "The request is malformed; `errors` names each part.",
    429: "Too many at a time, or too fast; try again after the seconds in `Retry-After`.",
    431: "The headers are too large; `detail` says how large they may be.",
    503: "The database is out of reach; try again after the seconds in `Retry-After`.",
}


def answer(request: Request, problem: ProblemAnswer, errors: list[InvalidField] | None = None) -> JSONResponse:
    """A problem as a response."""
    body = Problem(
        title=_TITLES.get(problem.status, "Error"),
        status=problem.status,
        detail=problem.detail,
        instance=request.scope.get("raw_path", b"").decode("latin-1"),
        errors=errors,
        request_id=request.scope.get("request_id"),
    )
    return JSONResponse(
        body.model_dump(exclude_none=True),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def unavailable(error: Exception) -> ProblemAnswer:
    """The database is out of reach, or not ready. Only our own sentence is passed on: a driver's may hold addresses."""
    away = "The database is out of reach at the moment; try again shortly."
    detail = str(error) if isinstance(error, NotReady) else away
    return ProblemAnswer(503, detail, headers={"Retry-After": _RETRY_SECONDS})


def _invalid_field(error: Mapping[str, Any]) -> InvalidField:
    location, kind = error["loc"], error["type"]
    if kind == "json_invalid":
        problem = f"it is no valid JSON: {error['ctx']['error']} at character {location[-1]}"
        return InvalidField(field="body", problem=problem)
    if location == ("body",) and kind in ("model_attributes_type", "dict_type"):
        problem = "a JSON object is expected, sent with Content-Type: application/json"
        return InvalidField(field="body", problem=problem)
    return InvalidField(field=".".join(map(str, location)), problem=error["msg"].removeprefix("Value error, "))


def first_problem(errors: Sequence[Any]) -> InvalidField:
    """The first thing that pydantic found wrong, for people."""
    return _invalid_field(errors[0])


def _methods_of(request: Request) -> list[str]:
    """All that the path takes; the framework tells only those of the first route that has it."""
    path: str = request.scope["path"]
    methods: dict[str, set[str]] = defaultdict(set)
    for each in iter_route_contexts(request.app.routes):
        if each.path and compile_path(each.path)[0].match(path):
            methods[each.path] |= each.methods or set()
    # Of /policies/dry-run and /policies/{version}, the first one is meant.
    return sorted(methods[min(methods, key=lambda template: template.count("{"))])


def install(app: FastAPI) -> None:
    """Makes every error of the application a problem."""

    async def on_problem(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ProblemAnswer)  # noqa: S101 - registered for it
        return answer(request, error, error.errors)

    async def on_http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
        if error.detail == _UNREADABLE_BODY:
            unreadable = InvalidField(field="body", problem="it cannot be read; JSON in UTF-8 is expected")
            return answer(request, ProblemAnswer(422, f"body: {unreadable.problem}"), [unreadable])
        headers = {**(error.headers or {})}
        if error.status_code == _METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_methods_of(request))
        return answer(
            request, ProblemAnswer(error.status_code, _SAID.get(error.status_code, error.detail), headers=headers)
        )

    async def on_invalid_request(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
        errors = [_invalid_field(each) for each in error.errors()]
        return answer(request, ProblemAnswer(422, f"{errors[0].field}: {errors[0].problem}"), errors[:20])

    async def on_invalid_filter(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, FilterInvalid)  # noqa: S101 - registered for it
        wrong = InvalidField(field=f"query.{error.name}", problem=error.problem)
        return answer(request, ProblemAnswer(422, f"{wrong.field}: {wrong.problem}"), [wrong])

    async def on_unavailable(request: Request, error: Exception) -> JSONResponse:
        return answer(request, unavailable(error))

    async def on_surprise(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - logged by the server
        said = answer(request, ProblemAnswer(500, "Something went wrong here; the log of the service says what."))
        # It is said outside of all middleware, which would do this.
        complete_headers(request.scope, said.headers)
        return said

    app.add_exception_handler(ProblemAnswer, on_problem)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid_request)
    app.add_exception_handler(FilterInvalid, on_invalid_filter)
    app.add_exception_handler(StoreUnavailable, on_unavailable)
    app.add_exception_handler(Exception, on_surprise)
