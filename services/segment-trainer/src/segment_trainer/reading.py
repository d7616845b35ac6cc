"""A file of contract events -> examples: by the project's own decoder and counting, in bounded memory.

Laws: what counts is what the ledger would count of the same messages in the order of the file; every message read is
applied, repeated, or refused with its reason, and the three add up; memory grows with customers, not with events.

Events are spread over parts by a hash of their customer, on disk when there are many, and counted part by part, once:
all that an order, a retraction or a customer needs is in one part. Who owns an event id that several customers use is
decided before, over all of them: the first in the file.
"""

import gzip
import hashlib
import pickle
import tempfile
import time
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import IO, Final, Self

import numpy as np

from segment_trainer.failures import NotPossible
from segment_trainer.logbook import Logbook
from segment_trainer.sources import PARTS, Say, Source
from segmentation.calendar import BusinessCalendar
from segmentation.errors import RatesInvalid
from segmentation.events import Event, EventKey, OrderPlaced, Reject, RejectReason, ReturnReceived, decode
from segmentation.metrics import BucketTable
from segmentation.money import Rates, parse_rates
from segmentation.outcomes import AcceptedEvent, Delivery, Partition, accept

_HELD_EVENTS: Final = 400_000
"""In memory at a time; more go to disk."""
_GZIP: Final = b"\x1f\x8b"
_NOWHERE: Final = Delivery(Partition("file", 0), 0, None)
_SAY_EVERY_SECONDS: Final = 2.0

Priced = OrderPlaced | ReturnReceived


class EventFile(Source):
    """The events of a file, spread over parts. Use it as a context: it keeps files in a temporary directory."""

    def __init__(self, say: Say) -> None:
        super().__init__(say)
        self._directory = tempfile.TemporaryDirectory(prefix="tierline-events-")
        self._held: list[list[Event]] = [[] for _ in range(PARTS)]
        self._spilled = False
        self._owners: Mapping[EventKey, int] = {}
        self._logbooks: list[Logbook] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    def load(self, path: Path, *, rates_file: Path | None, currency: str | None, time_zone: str, now: int) -> None:
        """Reads and judges every message; `now` is the machine's clock as an instant."""
        self.name, self.sha256 = path.name, _sha256(path)
        currencies: Counter[str] = Counter()
        keys, owners = array("Q"), array("L")
        said = time.monotonic()
        for line in _lines(path):
            self.read.messages += 1
            event = decode(line)
            if isinstance(event, Reject):
                self.read.refused[event.reason] += 1
                continue
            if isinstance(event, Priced):
                currencies[event.currency] += 1
            owner = zlib.crc32(event.customer_id.encode())
            keys.append(int.from_bytes(event.key[:8], "big"))
            owners.append(owner)
            self._hold(owner % PARTS, event)
            if time.monotonic() - said > _SAY_EVERY_SECONDS:
                said = time.monotonic()
                self._say(f"{self.read.messages:,} messages read ...")
        if not keys:
            raise NotPossible(f"{path} has no event that can be read: {_told(self.read.refused) or 'it is empty'}")
        self._owners = _shared(keys, owners)
        # of equally frequent ones the first by name, so that the order of the file decides nothing
        self.base_currency = currency or min(currencies, key=lambda each: (-currencies[each], each), default="EUR")
        self._rates = _rates(rates_file, self.base_currency)
        self.decimals = self._rates.decimals
        self._calendar = BusinessCalendar(time_zone)
        self._now = now
        self._survey()

    @property
    def _tells_parts(self) -> bool:
        return self._spilled

    def _hold(self, part: int, event: Event) -> None:
        held = self._held[part]
        held.append(event)
        if len(held) >= _HELD_EVENTS // PARTS:
            self._spilled = True
            with self._part(part).open("ab") as file:
                pickle.dump(held, file, protocol=pickle.HIGHEST_PROTOCOL)
            held.clear()

    def _part(self, part: int) -> Path:
        return Path(self._directory.name) / f"part-{part}"

    def _events(self, part: int) -> Iterator[Event]:
        if self._part(part).exists():
            with self._part(part).open("rb") as file:
                yield from _batches(file)
        yield from self._held[part]

    def _judged(self, part: int) -> Iterator[tuple[Event, AcceptedEvent | Reject | None]]:
        """The events of a part in the order of the file; None where its id was applied before."""
        known: set[EventKey] = set()
        for event in self._events(part):
            key = event.key
            owner = self._owners.get(EventKey(key[:8]))
            if key in known or (owner is not None and owner != zlib.crc32(event.customer_id.encode())):
                yield event, None
                continue
            verdict = accept(_NOWHERE, event, key=key, rates=self._rates, calendar=self._calendar, now=self._now)
            if isinstance(verdict, AcceptedEvent):
                known.add(key)
            yield event, verdict

    def _survey(self) -> None:
        """What becomes of each message, what it changes, and which days there are."""
        for part in range(PARTS):
            accepted: list[AcceptedEvent] = []
            if self._tells_parts:
                self._say(f"counting, part {part + 1} of {PARTS} ...")
            for event, verdict in self._judged(part):
                if verdict is None:
                    self.read.repeated += 1
                elif isinstance(verdict, Reject):
                    self.read.refused[verdict.reason] += 1
                    if verdict.reason is RejectReason.UNKNOWN_CURRENCY and isinstance(event, Priced):
                        self.read.unconverted[event.currency] += 1
                else:
                    self.read.applied += 1
                    accepted.append(verdict)
                    self.first_day = min(self.first_day, verdict.occurred_day)
                    self.last_day = max(self.last_day, verdict.occurred_day)
            self._logbooks.append(Logbook.of(accepted))
            self._held[part].clear()
            self._part(part).unlink(missing_ok=True)
        if not self.read.applied:
            raise NotPossible(f"no event of the file can be counted: {_told(self.read.refused)}")

    def _tables(self, part: int, moments: Sequence[date]) -> Iterator[tuple[date, BucketTable]]:
        for moment in moments:
            yield moment, self._logbooks[part].table(moment)


def _lines(path: Path) -> Iterator[bytes]:
    """Every line that is not blank, of a plain or gzipped file."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        lines: IO[bytes]
        with gzip.open(path) if packed else path.open("rb") as lines:  # type: ignore[assignment]
            for line in lines:
                if text := line.strip():
                    yield text
    except (OSError, EOFError, zlib.error) as error:
        raise NotPossible(f"{path} cannot be read: {error}") from None


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise NotPossible(f"{path} cannot be read: {error}") from None


def _batches(file: IO[bytes]) -> Iterator[Event]:
    while True:
        try:
            held: list[Event] = pickle.load(file)  # noqa: S301 - a temporary file of this process
        except EOFError:
            return
        yield from held


def _shared(keys: Iterable[int], owners: Iterable[int]) -> Mapping[EventKey, int]:
    """Of the ids that several customers use, whose they are: of the first in the file."""
    ids, whose = np.array(keys, dtype=np.uint64), np.array(owners, dtype=np.uint64)
    order = np.argsort(ids, kind="stable")
    ids, whose = ids[order], whose[order]
    first = np.maximum.accumulate(np.where(np.append(True, ids[1:] != ids[:-1]), np.arange(len(ids)), 0))
    others = np.flatnonzero(whose != whose[first])
    return {EventKey(int(ids[row]).to_bytes(8, "big")): int(whose[first[row]]) for row in others}


def _rates(path: Path | None, base_currency: str) -> Rates:
    if path is None:
        return Rates(base_currency)
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return Rates.of(base_currency, parse_rates(lines, base_currency=base_currency))
    except (OSError, UnicodeDecodeError, RatesInvalid) as error:
        raise NotPossible(f"the rates of {path} cannot be read: {error}") from None


def _told(refused: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {reason}" for reason, number in sorted(refused.items()))
