"""Which fault comes when: decided by the seed alone, before anything runs.

Laws: the same seed and length give the same faults. There are four lanes, and faults of one lane follow each other
while those of different lanes overlap, so no fault is undone by another of its own kind. In each lane every kind comes
once before one comes again; a short campaign begins with another part of them for every seed.
"""

import enum
import heapq
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final


class Lane(enum.StrEnum):
    """What is disturbed, one fault at a time."""

    WORKERS = "workers"
    DATABASE = "database"
    BROKER = "broker"
    OPERATOR = "operator"


class Kind(enum.StrEnum):
    """A fault, or an operator's command given meanwhile; `docs/chaos.md` describes each."""

    WORKER_KILLED = "worker-killed"
    WORKER_FROZEN = "worker-frozen"
    DUTIES_KILLED = "duties-killed"
    WORKERS_ROLLED = "workers-rolled"
    WORKER_JOINED = "worker-joined"
    DATABASE_KILLED = "database-killed"
    DATABASE_RESTARTED = "database-restarted"
    DATABASE_TERMINATED = "database-connections-terminated"
    DATABASE_FULL = "database-out-of-connections"
    DATABASE_LOCKED = "database-rows-locked"
    DATABASE_SLOW = "database-link-slow"
    DATABASE_STALLED = "database-link-stalled"
    DATABASE_CUT = "database-link-cut"
    DATABASE_DEAF = "database-link-loses-requests"
    DATABASE_DUMB = "database-link-loses-answers"
    BROKER_KILLED = "broker-killed"
    BROKER_RESTARTED = "broker-restarted"
    BROKER_FROZEN = "broker-frozen"
    BROKER_SLOW = "broker-link-slow"
    BROKER_STALLED = "broker-link-stalled"
    BROKER_CUT = "broker-link-cut"
    BROKER_DEAF = "broker-link-loses-requests"
    BROKER_DUMB = "broker-link-loses-answers"
    RATES_LOADED = "rates-loaded"
    REJECTS_REPLAYED = "rejects-replayed"


@dataclass(frozen=True, slots=True)
class _Shape:
    lane: Lane
    shortest: float
    longest: float


# A worker is out of its group after ten seconds of silence: who is frozen for longer wakes up as a zombie.
_SHAPES: Final[Mapping[Kind, _Shape]] = {
    Kind.WORKER_KILLED: _Shape(Lane.WORKERS, 0, 4),
    Kind.WORKER_FROZEN: _Shape(Lane.WORKERS, 12, 16),
    Kind.DUTIES_KILLED: _Shape(Lane.WORKERS, 0, 0),
    Kind.WORKERS_ROLLED: _Shape(Lane.WORKERS, 0, 1),
    Kind.WORKER_JOINED: _Shape(Lane.WORKERS, 4, 10),
    Kind.DATABASE_KILLED: _Shape(Lane.DATABASE, 0, 5),
    Kind.DATABASE_RESTARTED: _Shape(Lane.DATABASE, 0, 5),
    Kind.DATABASE_TERMINATED: _Shape(Lane.DATABASE, 2, 5),
    Kind.DATABASE_FULL: _Shape(Lane.DATABASE, 3, 7),
    Kind.DATABASE_LOCKED: _Shape(Lane.DATABASE, 2, 6),
    Kind.DATABASE_SLOW: _Shape(Lane.DATABASE, 3, 8),
    Kind.DATABASE_STALLED: _Shape(Lane.DATABASE, 3, 12),
    Kind.DATABASE_CUT: _Shape(Lane.DATABASE, 1, 6),
    Kind.DATABASE_DEAF: _Shape(Lane.DATABASE, 1, 5),
    Kind.DATABASE_DUMB: _Shape(Lane.DATABASE, 1, 5),
    Kind.BROKER_KILLED: _Shape(Lane.BROKER, 0, 5),
    Kind.BROKER_RESTARTED: _Shape(Lane.BROKER, 0, 5),
    Kind.BROKER_FROZEN: _Shape(Lane.BROKER, 4, 14),
    Kind.BROKER_SLOW: _Shape(Lane.BROKER, 3, 8),
    Kind.BROKER_STALLED: _Shape(Lane.BROKER, 3, 14),
    Kind.BROKER_CUT: _Shape(Lane.BROKER, 1, 6),
    Kind.BROKER_DEAF: _Shape(Lane.BROKER, 1, 5),
    Kind.BROKER_DUMB: _Shape(Lane.BROKER, 1, 5),
    Kind.RATES_LOADED: _Shape(Lane.OPERATOR, 0, 0),
    Kind.REJECTS_REPLAYED: _Shape(Lane.OPERATOR, 0, 0),
}
_WAYS: Final = ("requests", "answers", "both")
_SHORTEST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One of the schedule."""

    at: float
    """Seconds from the beginning; later where the lane's former fault takes longer."""
    kind: Kind
    seconds: float
    """From when it begins until it is undone."""
    slot: int
    """The worker that it befalls, by its place; faults of servers befall everyone."""
    everyone: bool
    """Of a link: every worker's."""
    way: str
    """Of a link that is stalled: `requests`, `answers` or `both`."""

    @property
    def lane(self) -> Lane:
        return lane_of(self.kind)

    def told(self) -> str:
        """In a line for a person."""
        about = [f"{self.seconds:.1f} s"] if self.seconds else []
        if "-link-" in self.kind:
            about.append("every worker" if self.everyone else f"worker {self.slot + 1}")
        if self.kind in (Kind.WORKER_KILLED, Kind.WORKER_FROZEN, Kind.DUTIES_KILLED):
            about.append(f"worker {self.slot + 1}")
        if self.kind in (Kind.DATABASE_STALLED, Kind.BROKER_STALLED):
            about.append(f"{self.way}" if self.way != "both" else "both directions")
        return f"{self.kind}" + (f" ({', '.join(about)})" if about else "")


def lane_of(kind: Kind) -> Lane:
    return _SHAPES[kind].lane


def plan(seed: int, *, seconds: float, workers: int, only: Sequence[Kind] = tuple(Kind)) -> list[Fault]:
    """The faults of a campaign in order of their time; `only` these kinds."""
    lanes = [_lane(seed, lane, seconds, workers, only) for lane in Lane]
    return list(heapq.merge(*lanes, key=lambda fault: fault.at))


def _lane(seed: int, lane: Lane, seconds: float, workers: int, only: Sequence[Kind]) -> Iterator[Fault]:
    # a lane of its own generator: what is left out of one changes nothing in the others
    chance = random.Random(f"{seed} {lane}")
    kinds = [kind for kind in Kind if lane_of(kind) is lane and kind in only]
    deck: list[Kind] = []
    at = chance.uniform(_SHORTEST_PAUSE, _LONGEST_PAUSE)
    while kinds and at < seconds:
        if not deck:
            deck = chance.sample(kinds, len(kinds))
        kind = deck.pop()
        shape = _SHAPES[kind]
        fault = Fault(
            at=round(at, 2),
            kind=kind,
            seconds=round(chance.uniform(shape.shortest, shape.longest), 2),
            slot=chance.randrange(workers),
            everyone=chance.random() < 0.5,  # noqa: PLR2004 - as often as not
            way=chance.choice(_WAYS),
        )
        yield fault
        pause = chance.uniform(_SHORTEST_PAUSE, _LONGEST_PAUSE)
        at += fault.seconds + pause * (4 if lane is Lane.OPERATOR else 1)
