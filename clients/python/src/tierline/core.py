"""The conversation with the service, without a wire: what to send, when to send it again, what an answer means.

Each call is a generator that yields steps, `Send` or `Wait`, takes responses (or the transport's error), and returns
the result; `Tierline` and `AsyncTierline` only carry the steps out. Laws: only what does no harm twice is sent twice;
nobody waits longer than `Retries` allows; no key is in a step, a message or a `repr`.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote

import httpx
import msgspec

from tierline import answers
from tierline.errors import NotFound, Problem, TierlineError, Unavailable, UnexpectedAnswer, problem_of

T = TypeVar("T")

MOST_IDS: Final = 10_000
MOST_EVENTS: Final = 1_000
_LARGEST_BODY: Final = 4_000_000
_AWAY: Final = frozenset((502, 503, 504))
_JSON: Final = "application/json"
_NOT_MODIFIED: Final = 304
_TOO_MANY: Final = 429
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how patiently a call is repeated. Waits are chance between 0 and twice as long each time."""

    tries: int = 4
    first_seconds: float = 0.2
    longest_seconds: float = 10.0
    """Of one wait; where `Retry-After` wants more, the call fails at once and says so."""

    def wait(self, done: int, asked: float | None) -> float | None:
        """Seconds to wait after so many tries; None: no more tries."""
        if done >= self.tries or (asked is not None and asked > self.longest_seconds):
            return None
        most = min(self.longest_seconds, self.first_seconds * 2 ** min(done - 1, 30))
        chance = random.uniform(0, most)  # noqa: S311 - no secret
        # All who were told the same do not come at the same instant.
        return chance if asked is None else min(self.longest_seconds, asked + random.uniform(0, self.first_seconds))  # noqa: S311


@dataclass(frozen=True, slots=True)
class Send:
    """A request that is to be sent."""

    method: str
    path: str
    params: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    idempotent: bool = True


@dataclass(frozen=True, slots=True)
class Wait:
    """Time that is to pass."""

    seconds: float


Talk = Generator[Send | Wait, httpx.Response | httpx.TransportError | None, T]


class BearerKey(httpx.Auth):
    """Puts the key on the wire, and nowhere else."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "BearerKey(...)"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._key}"
        yield request


def bearer(key: str | None) -> BearerKey | None:
    """The key given, or that of TIERLINE_API_KEY; without either none is sent, as with AUTH=off.

    Raises:
        ValueError: it is no key.
    """
    chosen = os.environ.get("TIERLINE_API_KEY") if key is None else key  # noqa: TID251 - read once, at the start
    if not chosen:
        return None
    chosen = chosen.strip()
    if not chosen.isascii() or not chosen.isprintable() or " " in chosen:
        raise ValueError("the key has characters that no key has; give it as `segment-api keys create` showed it")
    return BearerKey(chosen)


@dataclass(frozen=True, slots=True)
class _Remembered:
    tag: str
    segment: answers.Segment


class Memory:
    """The last answers with their tags, the least used forgotten first; for threads, too."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, _Remembered] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, customer_id: str) -> _Remembered | None:
        with self._lock:
            found = self._kept.get(customer_id)
            if found is not None:
                self._kept.move_to_end(customer_id)
            return found

    def keep(self, customer_id: str, tag: str, segment: answers.Segment) -> None:
        with self._lock:
            self._kept[customer_id] = _Remembered(tag, segment)
            self._kept.move_to_end(customer_id)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def forget(self, customer_id: str) -> None:
        with self._lock:
            self._kept.pop(customer_id, None)

    def __len__(self) -> int:
        return len(self._kept)


class Conversations:
    """Every call of the service as a conversation."""

    def __init__(self, *, language: str | None, retries: Retries, remember: int, stale_if_away: bool) -> None:
        self._headers = {"Accept": _JSON} | ({"Accept-Language": language} if language else {})
        self.retries = retries
        self.memory = Memory(remember)
        self._stale_if_away = stale_if_away

    # --- customers ---

    def segment(self, customer_id: str, as_of: date | None = None) -> Talk[answers.Segment]:
        path = f"{_customer(customer_id)}/segment"
        if as_of is not None:
            dated = yield from self._ask(Send("GET", path, (("as_of", as_of.isoformat()),)))
            return read(dated, answers.Segment)
        known = self.memory.find(customer_id)
        headers = {"If-None-Match": known.tag} if known else {}
        try:
            response = yield from self._ask(Send("GET", path, headers=headers))
        except Unavailable:
            if known is None or not self._stale_if_away:
                raise
            return msgspec.structs.replace(known.segment, stale=True)
        except NotFound:
            self.memory.forget(customer_id)
            raise
        if response.status_code == _NOT_MODIFIED and known is not None:
            return known.segment
        segment = read(response, answers.Segment)
        if "etag" in response.headers:
            self.memory.keep(customer_id, response.headers["etag"], segment)
        return segment

    def segments(self, customer_ids: Iterable[str]) -> Talk[answers.Segments]:
        found = answers.Segments(as_of=None, customers=[], unknown=[])
        for part in _parts(dict.fromkeys(customer_ids), MOST_IDS):
            asked = Send("POST", "/customers/segments", content=_json({"customer_ids": part}))
            answer = read((yield from self._ask(asked)), answers.Segments)
            found = answers.Segments(
                as_of=answer.as_of,
                customers=found.customers + answer.customers,
                unknown=found.unknown + answer.unknown,
            )
        return found

    def read(self, path: str, kind: type[T], params: Sequence[tuple[str, str]] = ()) -> Talk[T]:
        return read((yield from self._ask(Send("GET", path, params))), kind)

    def metrics(self, customer_id: str) -> Talk[answers.Metrics]:
        return self.read(f"{_customer(customer_id)}/metrics", answers.Metrics)

    def explanation(self, customer_id: str) -> Talk[answers.Explanation]:
        return self.read(f"{_customer(customer_id)}/explanation", answers.Explanation)

    def history_page(self, path: str) -> Talk[answers.HistoryPage]:
        return self.read(path, answers.HistoryPage)

    def customers_page(self, path: str, params: Sequence[tuple[str, str]]) -> Talk[answers.CustomersPage]:
        return self.read(path, answers.CustomersPage, params)

    def erase(self, customer_id: str, author: str | None, reason: str | None) -> Talk[answers.Erasure]:
        said = [(name, words) for name, words in (("author", author), ("reason", reason)) if words is not None]
        try:
            response = yield from self._ask(Send("DELETE", _customer(customer_id), said))
        finally:
            self.memory.forget(customer_id)
        return read(response, answers.Erasure)

    # --- everyone, dispatch, events ---

    def tiers(self) -> Talk[answers.Tiers]:
        return self.read("/tiers", answers.Tiers)

    def priorities(
        self, orders: Iterable[answers.Order | Mapping[str, Any]], at: datetime | None, scale: str | None
    ) -> Talk[answers.Ranking]:
        question: dict[str, Any] = {"orders": list(orders)}
        if at is not None:
            question["at"] = at
        params = (("scale", scale),) if scale else ()
        asked = Send("POST", "/dispatch/priorities", params, content=msgspec.json.encode(question))
        return read((yield from self._ask(asked)), answers.Ranking)

    def send_events(
        self, events: Iterable[Mapping[str, Any]], *, validate_only: bool
    ) -> Talk[list[answers.EventOutcome]]:
        # An event is known by its event_id, so that the same events sent again are duplicates and no harm.
        outcomes: list[answers.EventOutcome] = []
        params = (("validate_only", "true"),) if validate_only else ()
        for body in _bodies(events):
            answer = read((yield from self._ask(Send("POST", "/events", params, content=body))), answers.EventsAnswer)
            first = len(outcomes)
            outcomes += [msgspec.structs.replace(each, index=first + each.index) for each in answer.events]
        return outcomes

    def request(
        self, method: str, path: str, params: Mapping[str, str] | None, body: object, *, idempotent: bool | None
    ) -> Talk[Any]:
        safe = method.upper() in ("GET", "PUT", "DELETE") if idempotent is None else idempotent
        content = None if body is None else _json(body)
        asked = Send(method.upper(), path, tuple((params or {}).items()), content=content, idempotent=safe)
        return read((yield from self._ask(asked)), cast("type[Any]", object))

    # --- sending ---

    def _ask(self, asked: Send) -> Talk[httpx.Response]:
        """The answer that is no failure, after as many tries as it takes and is allowed.

        Raises:
            TierlineError: there is none.
        """
        content_type = {} if asked.content is None else {"Content-Type": _JSON}
        asked = Send(
            asked.method,
            asked.path,
            asked.params,
            {**self._headers, **content_type, **asked.headers},
            asked.content,
            asked.idempotent,
        )
        for done in itertools.count(1):
            failure = failure_of((yield asked))
            if isinstance(failure, httpx.Response):
                return failure
            wait = None
            if asked.idempotent and may_pass(failure):
                wait = self.retries.wait(done, getattr(failure, "retry_after", None))
            if wait is None:
                raise failure
            yield Wait(wait)
        raise AssertionError


def failure_of(got: httpx.Response | httpx.TransportError | None) -> httpx.Response | TierlineError:
    """The response, or the error that it is."""
    assert got is not None  # noqa: S101 - whoever carries out a step gives back what came
    if isinstance(got, httpx.TransportError):
        failure = Unavailable(f"the service is out of reach: {type(got).__name__}: {got}")
        failure.__cause__ = got
        return failure
    if got.is_success or got.status_code == _NOT_MODIFIED:
        return got
    asked = retry_after(got)
    try:
        told = json.loads(got.content)
    except ValueError:
        told = None
    if got.status_code in _AWAY:
        detail = told.get("detail") if isinstance(told, dict) else None
        return Unavailable(f"{got.status_code}: {detail or 'the service is not there'}", retry_after=asked)
    if not isinstance(told, dict):
        return UnexpectedAnswer(f"{got.status_code} from {got.url.path}: {got.text[:_SHOWN]!r}")
    return problem_of(got.status_code, told, retry_after=asked)


def may_pass(failure: TierlineError) -> bool:
    """Whether it may be another answer a little later."""
    return isinstance(failure, Unavailable) or (isinstance(failure, Problem) and failure.status == _TOO_MANY)


def retry_after(response: httpx.Response) -> float | None:
    """Seconds, whether they are told as such or as a date."""
    told = response.headers.get("retry-after", "").strip()
    if told.isascii() and told.isdigit():
        return float(told)
    try:
        until, now = parsedate_to_datetime(told), parsedate_to_datetime(response.headers.get("date", ""))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return None


def read(response: httpx.Response, kind: type[T]) -> T:
    """What the answer says.

    Raises:
        UnexpectedAnswer: it is not of that kind.
    """
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnexpectedAnswer(f"the answer of {response.url.path} cannot be read: {error}") from None


def filters_of(filters: Mapping[str, str | Iterable[str] | None]) -> list[tuple[str, str]]:
    """Filters as they stand in an address; several values of one mean any of them."""
    return [
        (name, value)
        for name, given in filters.items()
        if given is not None
        for value in ([given] if isinstance(given, str) else given)
    ]


def history_path(customer_id: str) -> str:
    """Where the history of a customer begins."""
    return f"{_customer(customer_id)}/history"


def _customer(customer_id: str) -> str:
    # A slash, a dot or a question mark is part of the id here, and never of the path.
    quoted = quote(customer_id, safe="")
    if quoted.strip(".") == "":
        raise ValueError(f"{customer_id!r} is no customer id")
    return f"/customers/{quoted}"


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


def _parts(values: Iterable[T], most: int) -> Iterator[list[T]]:
    rest = iter(values)
    while part := list(itertools.islice(rest, most)):
        yield part


def _bodies(events: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Events in as few bodies as the service's limits allow, in their order."""
    rows: list[bytes] = []
    size = 0
    for event in events:
        row = _json(event)
        if rows and (len(rows) == MOST_EVENTS or size + len(row) > _LARGEST_BODY):
            yield b"[" + b",".join(rows) + b"]"
            rows, size = [], 0
        rows.append(row)
        size += len(row) + 1
    if rows:
        yield b"[" + b",".join(rows) + b"]"
