"""Errors as RFC 9457 problem details: one table says which, one shape carries them all."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from segmentation.errors import StoreUnavailable

MEDIA_TYPE = "application/problem+json"
_RETRY_SECONDS = "2"


class InvalidField(BaseModel):
    """What is wrong with one part of a request."""

    field: str = Field(description="Where it is: the parameter, or the path into the body.")
    problem: str = Field(description="What is wrong, and what is expected.")


class Problem(BaseModel):
    """An error answer (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "about:blank",
                "title": "Not Found",
                "status": 404,
                "detail": "No customer 'C-1042' is known.",
                "instance": "/customers/C-1042/segment",
            }
        }
    )

    type: str = Field("about:blank", description="Kind of problem; `about:blank` says no more than the title.")
    title: str = Field(description="The HTTP status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened here, and what to do about it.")
    instance: str = Field(description="The path that was asked for.")
    errors: list[InvalidField] | None = Field(None, description="Each part of the request that is wrong, if any.")


class ProblemAnswer(Exception):
    """Ends a request with a problem."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


_TITLES = {
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    422: "Unprocessable Content",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of the problems that a route can answer with."""
    return {
        status: {
            "description": _DESCRIPTIONS[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


_SAID = {
    404: "There is nothing at this path; /docs lists what there is.",
    405: "This path does not take that method; /docs lists what there is.",
}
_DESCRIPTIONS = {
    404: "Nothing of that name is known, or the id is malformed.",
    413: "The body is too large.",
    422: "The request is malformed; `errors` names each part.",
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
    )
    return JSONResponse(
        body.model_dump(exclude_none=True),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def install(app: FastAPI) -> None:
    """Makes every error of the application a problem."""

    async def on_problem(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ProblemAnswer)  # noqa: S101 - registered for it
        return answer(request, error)

    async def on_http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
        return answer(
            request, ProblemAnswer(error.status_code, _SAID.get(error.status_code, error.detail), headers=error.headers)
        )

    async def on_invalid_request(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
        errors = [
            InvalidField(field=".".join(str(part) for part in each["loc"]) or "body", problem=each["msg"])
            for each in error.errors()
        ]
        return answer(request, ProblemAnswer(422, f"{errors[0].field}: {errors[0].problem}"), errors[:20])

    async def on_unavailable(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - says no more
        detail = "The database is out of reach at the moment; try again shortly."
        return answer(request, ProblemAnswer(503, detail, headers={"Retry-After": _RETRY_SECONDS}))

    async def on_surprise(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - logged by the server
        return answer(request, ProblemAnswer(500, "Something went wrong here; the log of the service says what."))

    app.add_exception_handler(ProblemAnswer, on_problem)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid_request)
    app.add_exception_handler(StoreUnavailable, on_unavailable)
    app.add_exception_handler(Exception, on_surprise)
