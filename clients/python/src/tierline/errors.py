"""What can go wrong, by what a caller can do about it.

TierlineError
├── Unavailable          the service is out of reach or not ready, after all tries; try again later
├── UnexpectedAnswer     something answered that is not the service, or a version that this client cannot read
├── ChangesDropped       changes after that position are not kept any more; read everyone anew
└── Problem              the service refused, and says why
    ├── NotAllowed       401, 403: the key
    ├── NotFound         404
    ├── Invalid          400, 409, 413, 414, 422, 431: the request
    └── TooManyRequests  429, after all tries
"""

from __future__ import annotations

from typing import Any


class TierlineError(Exception):
    """Anything that this client raises by itself."""


class Unavailable(TierlineError):
    """The service is out of reach, or not ready."""

    def __init__(self, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        """After so many seconds, the service says."""


class UnexpectedAnswer(TierlineError):
    """An answer that cannot be read."""


class ChangesDropped(TierlineError):
    """There would be a hole: changes after the position were dropped for their age."""


class Problem(TierlineError):
    """The service refused, in the words of RFC 9457."""

    def __init__(self, status: int, problem: dict[str, Any], *, retry_after: float | None = None) -> None:
        self.status = status
        self.detail = str(problem.get("detail") or problem.get("title") or "no reason was given")
        """What happened, and what to do about it."""
        self.errors: list[dict[str, Any]] = list(problem.get("errors") or ())
        """Each part of the request that is wrong: `field` and `problem`."""
        self.request_id: str | None = problem.get("request_id")
        """As in the service's log."""
        self.retry_after = retry_after
        super().__init__(f"{status}: {self.detail}")


class NotAllowed(Problem):
    """The key is missing, wrong, revoked, or has not the scope that is needed."""


class NotFound(Problem):
    """Nothing of that name is known."""


class Invalid(Problem):
    """The request is wrong; sending it again changes nothing."""


class TooManyRequests(Problem):
    """The key's limit is reached."""


_BY_STATUS: dict[int, type[Problem]] = {401: NotAllowed, 403: NotAllowed, 404: NotFound, 429: TooManyRequests}
_INVALID = frozenset((400, 405, 409, 413, 414, 415, 422, 431))


def problem_of(status: int, problem: dict[str, Any], *, retry_after: float | None) -> Problem:
    """The error that a refusal is."""
    kind = Invalid if status in _INVALID else _BY_STATUS.get(status, Problem)
    return kind(status, problem, retry_after=retry_after)
