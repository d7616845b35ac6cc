"""`make run`'s own stack, from the command line to the last process gone, on real trade.

Law: only processes that the stack started are looked at and signalled, found as its children.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
import psutil
import pytest

from local_stack.ports import free_port

ROOT: Final = Path(__file__).resolve().parents[2]
BUNDLED: Final = ROOT / "data" / "online_retail_ii.ndjson.gz"
LIMIT_SECONDS: Final = 180.0
LINES: Final = 3_000
# what the stack would take from whoever runs the tests
_SETTINGS: Final = ("TOPIC_", "KAFKA_", "HTTP_", "DATABASE_", "CLOCK", "BASE_CURRENCY", "BUSINESS_TIMEZONE", "AUTH")


class RunningStack:
    """One `local-stack run`; killed with all that it started if a test leaves it running."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self.output = directory.with_name(f"{directory.name}.out")
        self.port = free_port()
        environment = {
            name: value
            for name, value in os.environ.items()  # noqa: TID251 - handed on
            if not name.startswith(_SETTINGS)
        }
        command = [str(Path(sys.executable).with_name("local-stack")), "run"]
        with self.output.open("ab") as output:
            self._printed_before = output.tell()
            self._process = psutil.Popen(
                [*command, "--data-dir", str(directory), "--http-port", str(self.port), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=ROOT,
            )

    @property
    def printed(self) -> str:
        """What this run has printed so far."""
        return self.output.read_bytes()[self._printed_before :].decode()

    @property
    def exit_code(self) -> int | None:
        code: int | None = self._process.poll()
        return code

    def processes(self) -> list[psutil.Process]:
        """All that the stack has started and that still runs."""
        return [process for process in self._process.children(recursive=True) if _alive(process)]

    def worker(self) -> psutil.Process:
        [worker] = [process for process in self.processes() if _is_worker(process)]
        return worker

    def until(self, check: Callable[[], object], what: str) -> None:
        """Waits until the check holds."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not check():
            assert self.exit_code is None, f"the stack ended with {self.exit_code}:\n{self.printed}"
            assert time.monotonic() < deadline, f"waited in vain for {what}:\n{self.printed}"
            time.sleep(0.1)

    def addresses(self) -> dict[str, Any]:
        """What stack.json says, once it is there."""
        file = self.directory / "stack.json"
        self.until(file.is_file, "stack.json")
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return content

    def get(self, path: str) -> dict[str, Any]:
        answer = httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False, timeout=30)
        assert answer.status_code == httpx.codes.OK, answer.text
        content: dict[str, Any] = answer.json()
        return content

    def events(self) -> dict[str, int]:
        events: dict[str, int] = self.get("/ingest/status")["events"]
        return events

    def offsets(self) -> dict[tuple[str, int], int]:
        """How far each partition was read, of those that hold anything."""
        partitions = self.get("/ingest/status")["partitions"]
        return {(row["topic"], row["partition"]): row["next_offset"] for row in partitions if row["next_offset"]}

    def stop(self) -> int:
        """SIGTERM; the exit code. Nothing that the stack started is left."""
        started = self.processes()
        self._process.terminate()
        code = self._process.wait(LIMIT_SECONDS)
        assert [process for process in started if _alive(process)] == []
        assert [process for process in psutil.process_iter() if str(self.directory) in _command(process)] == []
        assert not (self.directory / "stack.json").exists()
        return int(code)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self.exit_code is None:
            started = self.processes()
            self._process.kill()
            self._process.wait()
            for process in filter(_alive, started):
                process.kill()


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _is_worker(process: psutil.Process) -> bool:
    return "ingest-worker run" in _command(process)


def _cells(printed: str, row: str) -> list[str]:
    """The cells of the row of a printed table that begins with a text."""
    [line] = [line for line in printed.splitlines() if line.split("  ")[0].strip() == row]
    return line.split()


@pytest.fixture(scope="module")
def first_lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The beginning of the bundled events."""
    file = tmp_path_factory.mktemp("events") / "first.ndjson"
    with gzip.open(BUNDLED, "rb") as events:
        file.write_bytes(b"".join(itertools.islice(events, LINES)))
    return file


@pytest.fixture(scope="module")
def events(first_lines: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in first_lines.read_bytes().splitlines()]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "stack"


def _require_summary(stack: RunningStack, events: list[dict[str, Any]]) -> None:
    """What came out stands in the output, digit for digit as the API tells it."""
    printed, customers = stack.printed, {event["customer_id"] for event in events}
    as_of = max(event["occurred_at"] for event in events)[:10]
    assert f"Events (as of {as_of})" in printed
    assert f"{len(events):,}          0         0           0      {len(customers):,}" in printed
    tiers = stack.get("/tiers")
    for row in tiers["tiers"]:
        cells = _cells(printed, row["tier"])
        assert cells[1:3] == [f"{row['customers']:,}", f"{float(row['net_revenue']):,.2f}"]
        assert cells[3] == ("-" if row["share"] is None else f"{row['share']:.2%}")
    net = Counter[str]()
    for event in events:
        pence = int(event["amount"].replace(".", ""))
        net[event["customer_id"]] += pence if event["type"] == "order" else -pence
    for customer_id, pence in net.most_common(5):
        cells = _cells(printed, customer_id)
        answer = stack.get(f"/customers/{customer_id}/segment")
        assert cells[1:3] == [f"{pence / 100:,.2f}", answer["value_tier"]]
        assert answer["segment"]["name"] in printed
        assert answer["recommended_service_level"]["name"] in printed
    api = f"http://127.0.0.1:{stack.port}"
    curls = [line.strip() for line in printed.splitlines() if line.strip().startswith("curl ")]
    assert len(curls) == 3
    assert all(api in line for line in curls)
    assert f"{api}/docs" in printed


def _require_answers(stack: RunningStack, curl: str) -> None:
    for path in ("/health/live", "/health/ready", "/tiers", "/openapi.json"):
        assert stack.get(path)
    assert httpx.get(f"http://127.0.0.1:{stack.port}/docs", trust_env=False).status_code == httpx.codes.OK
    # the lines to try do what they promise
    tried = subprocess.run(["sh", "-c", curl], check=True, capture_output=True, timeout=30)
    assert "as_of" in json.loads(tried.stdout)


@pytest.mark.kafka
@pytest.mark.usefixtures("distribution")
def test_the_stack_from_start_to_stop_and_once_more(
    directory: Path, first_lines: Path, events: list[dict[str, Any]]
) -> None:
    """It says where everything is and what came out, starts a killed worker again, stops whole, and resumes."""
    everything = {"applied": LINES, "duplicate": 0, "rejected": 0, "suppressed": 0}
    with RunningStack(directory, "--data", str(first_lines)) as stack:
        addresses = stack.addresses()
        assert set(addresses) == {"api", "kafka_bootstrap_servers", "database_url", "broker", "worker"}
        assert httpx.get(f"{addresses['worker']}/health/ready", trust_env=False).json()["waiting_for"] == []
        assert addresses["api"] == f"http://127.0.0.1:{stack.port}"
        assert addresses["kafka_bootstrap_servers"].startswith("127.0.0.1:")
        assert addresses["database_url"].startswith("postgresql://")
        assert addresses["broker"] == "kafka"
        _require_summary(stack, events)
        for curl in [line.strip() for line in stack.printed.splitlines() if line.strip().startswith("curl ")]:
            _require_answers(stack, curl)
        assert stack.events() == everything
        offsets = stack.offsets()
        assert sum(offsets.values()) >= LINES

        killed = stack.worker()
        killed.kill()
        stack.until(lambda: any(_is_worker(each) and each != killed for each in stack.processes()), "another worker")
        stack.until(lambda: "ingest-worker was killed by SIGKILL; starting it again" in stack.printed, "a word on it")
        assert stack.events() == everything
        assert stack.stop() == 0

    with RunningStack(directory, "--data", str(first_lines)) as stack:
        assert set(stack.addresses()) == set(addresses)
        assert "nothing to do" in stack.printed
        _require_summary(stack, events)
        assert stack.events() == everything
        assert stack.offsets() == offsets
        stack.worker()
        assert stack.stop() == 0


@pytest.mark.kafka
@pytest.mark.usefixtures("distribution")
def test_a_replay_that_was_stopped_goes_on_where_it_stopped(directory: Path) -> None:
    """All of the bundled events, and the figures that are known of them."""
    with RunningStack(directory) as stack:
        stack.until(lambda: "Replaying" in stack.printed, "the replay")
        stack.until(lambda: sum(stack.events().values()) > 5_000, "some of it to be read")
        stack.worker().kill()
        stack.until(lambda: sum(stack.events().values()) > 12_000, "more of it to be read")
        assert stack.stop() == 0
        assert not (directory / "stack.json").exists()
    with RunningStack(directory) as stack:
        assert stack.addresses()["broker"] == "kafka"
        status = stack.get("/ingest/status")
        assert status["events"] == {"applied": 44_876, "duplicate": 0, "rejected": 0, "suppressed": 0}
        assert (status["as_of"], status["clock"], status["lag"]) == ("2011-12-09", "event", 0)
        assert status["customers"] == 5_942
        assert status["tiers"] == {"as_of": "2011-12-09", "current": True}
        tiers = stack.get("/tiers")
        counts = {row["tier"]: row["customers"] for row in tiers["tiers"]}
        assert counts == {"A": 1_170, "B": 1_426, "C": 1_647, "unrated": 1_699}
        assert tiers["as_of"] == "2011-12-09"
        for tier, count in counts.items():
            assert _cells(stack.printed, tier)[1] == f"{count:,}"
        _require_books(stack)
        assert stack.stop() == 0


def _require_books(stack: RunningStack) -> None:
    """Gross and returned of everyone, from the lifetime that each customer's metrics tell, add up to what is known."""
    with gzip.open(BUNDLED, "rb") as lines:
        amounts = Counter[tuple[str, str]]()
        for event in map(json.loads, lines):
            amounts[event["customer_id"], event["type"]] += int(event["amount"].replace(".", ""))
    assert sum(amount for (_, kind), amount in amounts.items() if kind == "order") == 1_743_153_316
    assert sum(amount for (_, kind), amount in amounts.items() if kind == "return") == 108_788_214
    for customer_id in [customer_id for customer_id, _ in itertools.islice(amounts, 0, None, 100)]:
        net = amounts[customer_id, "order"] - amounts[customer_id, "return"]
        lifetime = stack.get(f"/customers/{customer_id}/metrics")["lifetime"]
        assert int(lifetime["net_revenue"].replace(".", "")) == net


def test_the_stand_in_for_kafka_is_enough_for_a_first_look(directory: Path, first_lines: Path) -> None:
    """It says what it is, everything is applied, and a restart, which forgets the broker's part, keeps the rest."""
    everything = {"applied": LINES, "duplicate": 0, "rejected": 0, "suppressed": 0}
    with RunningStack(directory, "--broker", "in-process", "--data", str(first_lines)) as stack:
        assert stack.addresses()["broker"] == "in-process"
        assert "NOT a real Kafka" in stack.printed
        assert stack.events() == everything
        assert stack.get("/ingest/status")["lag"] == 0
        assert sum(row["customers"] for row in stack.get("/tiers")["tiers"]) == stack.get("/ingest/status")["customers"]
        assert stack.stop() == 0
    with RunningStack(directory, "--broker", "in-process", "--data", str(first_lines)) as stack:
        stack.addresses()
        assert "nothing to do" in stack.printed
        assert stack.events() == everything
        assert stack.stop() == 0


def _load_rates(stack: RunningStack, file: Path) -> None:
    command = [str(Path(sys.executable).with_name("ingest-worker")), "load-rates", str(file)]
    settings = {"DATABASE_URL": stack.addresses()["database_url"], "BASE_CURRENCY": "CNY", "CLOCK": "system"}
    subprocess.run(command, check=True, env={"PATH": os.defpath, **settings}, timeout=LIMIT_SECONDS)


def _currencies(stack: RunningStack) -> set[str]:
    day = stack.get("/ingest/status")["as_of"]
    return {row["currency"] for row in stack.get(f"/ingest/totals?from={day}&to={day}")["totals"]} - {None}


def _require_synthetic_events(stack: RunningStack) -> None:
    """They are applied, said to be synthetic, and never refused."""
    stack.addresses()
    before = stack.get("/ingest/status")
    stack.until(lambda: stack.events()["applied"] > before["events"]["applied"] + 100, "synthetic events to be applied")
    stack.until(lambda: "synthetic: " in stack.printed, "a line on how it goes")
    assert "SYNTHETIC events flow: 50 a second" in stack.printed
    assert "start without --simulate" in stack.printed
    after = stack.get("/ingest/status")
    assert after["customers"] > before["customers"]
    assert after["events"]["rejected"] == after["events"]["suppressed"] == 0
    # what is doubled on purpose, and what the in-process broker may have forgotten
    assert after["events"]["duplicate"] < after["events"]["applied"] / 4


@pytest.mark.kafka
@pytest.mark.usefixtures("distribution")
def test_synthetic_events_flow_until_it_stops(directory: Path) -> None:
    """Through a real Kafka."""
    with RunningStack(directory, "--no-replay", "--simulate", "50") as stack:
        _require_synthetic_events(stack)
        assert stack.stop() == 0


def test_a_restart_adds_new_synthetic_events_in_every_currency_with_a_rate(directory: Path, tmp_path: Path) -> None:
    """The ids of the run before are not used again."""
    rates = tmp_path / "rates.csv"
    rates.write_text("currency,day,rate\nUSD,2020-01-01,7.1\n")
    arguments = ("--broker", "in-process", "--no-replay", "--simulate", "50")
    with RunningStack(directory, *arguments) as stack:
        _require_synthetic_events(stack)
        assert _currencies(stack) == {"CNY"}
        _load_rates(stack, rates)
        assert stack.stop() == 0
    with RunningStack(directory, *arguments) as stack:
        _require_synthetic_events(stack)
        stack.until(lambda: _currencies(stack) == {"CNY", "USD"}, "orders in another currency")
        assert stack.stop() == 0


def test_signals_during_the_start_end_it_in_order(directory: Path, first_lines: Path) -> None:
    """Ctrl-C before anything is up is no failure, and leaves nothing behind."""
    with RunningStack(directory, "--broker", "in-process", "--data", str(first_lines)) as stack:
        stack.until(lambda: "Starting PostgreSQL" in stack.printed, "the start")
        stack.until(stack.processes, "the first process")
        started = stack.processes()
        stack._process.send_signal(signal.SIGINT)
        assert stack._process.wait(LIMIT_SECONDS) == 0
        assert [process for process in started if _alive(process)] == []
        assert not (directory / "stack.json").exists()
