"""A load of lookups from a process of its own: HTTP/1.1 on connections that stay open, in as few words as it takes.

Laws: with a rate, a request's latency counts from the moment at which it was to be sent, whether a connection was free
then or not, so that a server that stands still is not let off; without one, each connection asks again as soon as it is
answered. Whatever is not the status expected is counted as such and fails the measurement.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

_LENGTH: Final = b"content-length: "
_SPIN_SECONDS: Final = 0.002


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of whom, how fast."""

    port: int
    paths: str
    """A file, one path a line; asked for in a random order that is the same each time."""
    seconds: float
    connections: int
    rate: float | None = None
    headers: Mapping[str, str] | None = None
    each_once: bool = False
    """Every path once, in the order of the file, however long that takes."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of it."""

    answers: int
    seconds: float
    p50: float
    p99: float
    worst: float
    statuses: Mapping[str, int]

    @property
    def per_second(self) -> float:
        return self.answers / self.seconds


async def run(load: Load) -> Answered:
    """Has a process of its own make the load."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.load", json.dumps(asdict(load)), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("the load generator failed")
    return Answered(**json.loads(said))


class _Connection(asyncio.Protocol):
    def __init__(self, answered: Callable[["_Connection", str], None]) -> None:
        self._answered = answered
        self._received = b""
        self._lacking = -1
        self._status = ""
        self.intended = 0.0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self, request: bytes, intended: float) -> None:
        self.intended = intended
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._lacking < 0:
            data = self._received + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._received = data
                return
            self._received = b""
            self._status = data[9:12].decode()
            at = data.find(_LENGTH, 0, end)
            length = int(data[at + len(_LENGTH) : data.find(b"\r", at)]) if at >= 0 else 0
            self._lacking = end + 4 + length
        self._lacking -= len(data)
        if self._lacking == 0:
            self._lacking = -1
            self._answered(self, self._status)

    def connection_lost(self, _: Exception | None) -> None:
        self._answered(self, "lost")


async def _make(load: Load, paths: Sequence[str]) -> Answered:
    head = "".join(f"{name}: {value}\r\n" for name, value in (load.headers or {}).items())
    requests = [f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n".encode() for path in paths]
    chosen = random.Random(1).choices(requests, k=100_000)  # noqa: S311 - a load, and the same each time
    if load.each_once:
        chosen = requests
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    latencies: list[float] = []
    statuses: Counter[str] = Counter()
    idle: deque[_Connection] = deque()
    late: deque[tuple[bytes, float]] = deque()
    ended = False
    sent = 0

    def ask_next(connection: _Connection, now: float) -> None:
        nonlocal sent
        if sent < len(chosen) or not load.each_once:
            connection.ask(chosen[sent % len(chosen)], now)
            sent += 1

    def answered(connection: _Connection, status: str) -> None:
        if ended:
            return
        now = time.perf_counter()
        statuses[status] += 1
        latencies.append(now - connection.intended)
        if status == "lost":
            return
        if load.each_once and len(latencies) >= len(chosen):
            done.set()
        elif load.rate is None:
            ask_next(connection, now)
        elif late:
            connection.ask(*late.popleft())
        else:
            idle.append(connection)

    for _ in range(load.connections):
        _, connection = await loop.create_connection(lambda: _Connection(answered), "127.0.0.1", load.port)
        idle.append(connection)
    begin = time.perf_counter()
    if load.rate is None:
        for connection in idle:
            ask_next(connection, time.perf_counter())
        if load.each_once:
            await done.wait()
        else:
            await asyncio.sleep(load.seconds)
    else:
        await _at_a_rate(load.rate, load.seconds, chosen, idle, late)
        await asyncio.sleep(0.2)
    ended = True
    seconds = time.perf_counter() - begin - (0.2 if load.rate else 0.0)
    latencies += [time.perf_counter() - intended for _, intended in late]
    return _told(latencies, seconds, statuses)


async def _at_a_rate(
    rate: float, seconds: float, chosen: Sequence[bytes], idle: deque[_Connection], late: deque[tuple[bytes, float]]
) -> None:
    begin = time.perf_counter()
    for number in range(int(rate * seconds)):
        intended = begin + number / rate
        while (wait := intended - time.perf_counter()) > 0:  # noqa: ASYNC110 - for a moment, not an event
            # The loop's timer knows milliseconds only, so the last of them are waited for awake.
            await asyncio.sleep(wait - _SPIN_SECONDS if wait > 2 * _SPIN_SECONDS else 0)
        request = chosen[number % len(chosen)]
        if idle:
            idle.popleft().ask(request, intended)
        else:
            late.append((request, intended))
            await asyncio.sleep(0)


def _told(latencies: list[float], seconds: float, statuses: Counter[str]) -> Answered:
    latencies.sort()

    def at(share: float) -> float:
        return latencies[min(len(latencies) - 1, int(share * len(latencies)))]

    return Answered(len(latencies), seconds, at(0.5), at(0.99), latencies[-1], dict(statuses))


if __name__ == "__main__":
    _load = Load(**json.loads(sys.argv[1]))
    _paths = Path(_load.paths).read_text(encoding="utf-8").split()
    print(json.dumps(asdict(uvloop.run(_make(_load, _paths)))))  # noqa: T201 - what it is asked for
