"""What the stack asks its own API.

Law: an API that does not answer yet is no error; one that answers otherwise than its contract is.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from local_stack.failures import StackFailed

_TIMEOUT_SECONDS = 30.0
OUTCOMES = ("applied", "duplicate", "rejected", "suppressed")


@dataclass(frozen=True, slots=True)
class IngestStatus:
    """What `GET /ingest/status` says, as far as the stack cares."""

    #: messages by outcome
    events: dict[str, int]
    #: messages produced and not yet read; None when unknown
    lag: int | None
    #: the next offset to be read, by topic and partition
    next_offsets: dict[tuple[str, int], int]
    #: who reads the partitions; one that was killed stands here until another claims them
    workers: frozenset[str]
    #: whether the cut-offs of the tiers cover every event
    tiers_current: bool
    customers: int
    as_of: str | None

    @property
    def read(self) -> int:
        """Messages that have had their outcome."""
        return sum(self.events.values())

    @classmethod
    def of(cls, answer: dict[str, Any]) -> IngestStatus:
        """Read the answer."""
        partitions = answer["partitions"]
        return cls(
            events={outcome: int(answer["events"][outcome]) for outcome in OUTCOMES},
            lag=answer["lag"],
            next_offsets={
                (row["topic"], row["partition"]): row["next_offset"]
                for row in partitions
                if row["next_offset"] is not None
            },
            workers=frozenset(row["worker"] for row in partitions if row["worker"] is not None),
            tiers_current=answer["tiers"]["current"] is True,
            customers=int(answer["customers"]),
            as_of=answer["as_of"],
        )


class Api:
    """A client of the stack's own API."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url
        self.key = key
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        # the environment's proxies are not for loopback
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT_SECONDS, trust_env=False, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._client.close()

    def is_ready(self) -> bool:
        """Whether it says so."""
        try:
            return self._client.get("/health/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def find_status(self) -> IngestStatus | None:
        """How far the worker has come; None while nobody answers."""
        try:
            answer = self._client.get("/ingest/status")
        except httpx.TransportError:
            return None
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            return None
        try:
            return IngestStatus.of(_content(answer))
        except (KeyError, TypeError, ValueError) as unexpected:
            raise StackFailed(
                f"The API at {self.url} answers GET /ingest/status in an unknown form ({unexpected!r}): "
                "run `make setup`, so that both are of the same version."
            ) from unexpected

    def tiers(self) -> dict[str, Any]:
        """The tiers and their shares."""
        return self._ask("GET", "/tiers")

    def segments(self, customer_ids: list[str]) -> list[dict[str, Any]]:
        """The answers about these customers."""
        answers: list[dict[str, Any]] = self._ask("POST", "/customers/segments", {"customer_ids": customer_ids})[
            "customers"
        ]
        return answers

    def metrics(self, customer_id: str) -> dict[str, Any]:
        """One customer's metrics."""
        return self._ask("GET", f"/customers/{customer_id}/metrics")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            return _content(self._client.request(method, path, json=body))
        except httpx.TransportError as failed:
            raise StackFailed(f"The API at {self.url} did not answer {method} {path}: {failed}.") from failed


def _content(answer: httpx.Response) -> dict[str, Any]:
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise StackFailed("The API does not take the key of the local stack: start it again, or leave AUTH unset.")
    if answer.status_code != httpx.codes.OK:
        request = answer.request
        raise StackFailed(
            f"The API answered {request.method} {request.url.path} with {answer.status_code}: {answer.text[:300]}"
        )
    content: dict[str, Any] = answer.json()
    return content
