"""What the worker says: one JSON object a line, by fixed names; never what a message held."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from ingest_worker import telemetry

_SAYS: Final = """
from ingest_worker import telemetry
telemetry.start_logging()
telemetry.say("batch.recorded", messages=3, topics=["a"], path=__import__("pathlib").Path("x"))
telemetry.warn("session.ended", detail="two\\nlines", error='"quoted" 订单')
try:
    raise ValueError("unforeseen")
except ValueError:
    telemetry.alarm("loop.failed", owner="me")
telemetry.page("partition.halted", offset=4)
import logging
logging.getLogger("aiokafka.consumer").info("not heard")
logging.getLogger("aiokafka.consumer").warning("heard: %s", "this")
"""


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    """What a process of its own says on standard error."""
    done = subprocess.run([sys.executable, "-c", _SAYS], check=True, capture_output=True, text=True, encoding="utf-8")
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_each_event_is_a_line_with_its_time_level_and_name(lines: list[dict[str, Any]]) -> None:
    assert [(line["level"], line["event"]) for line in lines] == [
        ("info", "batch.recorded"),
        ("warning", "session.ended"),
        ("error", "loop.failed"),
        ("error", "partition.halted"),
        ("warning", "heard: this"),
    ]
    now = datetime.now(UTC)  # noqa: TID251 - the tests' own
    for line in lines:
        assert now - timedelta(minutes=10) < datetime.fromisoformat(line["at"]) <= now


def test_fields_stand_beside_the_name(lines: list[dict[str, Any]]) -> None:
    """What JSON has no form for is written as text; several lines stay one."""
    recorded, ended, *_ = lines
    assert (recorded["messages"], recorded["topics"], recorded["path"]) == (3, ["a"], "x")
    assert (ended["detail"], ended["error"]) == ("two\nlines", '"quoted" 订单')


def test_what_nobody_foresaw_comes_with_its_trace(lines: list[dict[str, Any]]) -> None:
    failed = lines[2]
    assert failed["owner"] == "me"
    assert failed["trace"].startswith("Traceback")
    assert failed["trace"].endswith("ValueError: unforeseen")
    assert [number for number, line in enumerate(lines) if "trace" in line] == [2]


@pytest.mark.parametrize("say", [telemetry.say, telemetry.warn])
def test_a_name_with_a_percent_sign_is_no_format(caplog: pytest.LogCaptureFixture, say: Callable[..., None]) -> None:
    with caplog.at_level(logging.INFO, logger="ingest_worker"):
        say("100 % done", share="50 %s")
    assert caplog.records[0].getMessage() == "100 % done"


def test_the_time_zone_of_the_machine_is_said() -> None:
    environment = os.environ | {"TZ": "Asia/Shanghai"}  # noqa: TID251 - handed on
    done = subprocess.run(
        [sys.executable, "-c", _SAYS], check=True, capture_output=True, text=True, env=environment, encoding="utf-8"
    )
    at = datetime.fromisoformat(json.loads(done.stderr.splitlines()[0])["at"])
    assert at.utcoffset() == timedelta(hours=8)
