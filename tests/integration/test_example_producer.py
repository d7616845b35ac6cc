"""The producer of docs/examples, with a real Kafka and a real worker: its order counts, and once."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.support.workers import Site

from local_stack.kafka import EmbeddedKafka
from segmentation.outcomes import Outcome

pytestmark = pytest.mark.kafka

SCRIPT: Final = Path(__file__).resolve().parents[2] / "docs" / "examples" / "send_order.py"
AT: Final = "2026-11-22T08:15:30Z"


async def test_the_order_that_the_producer_sends_counts_once(site: Site, kafka: EmbeddedKafka) -> None:
    site.start()
    servers, topic = kafka.bootstrap_servers, site.settings["TOPIC_ORDERS"]
    for _ in range(2):
        order = ("C-1042", "O-77", "1280.50", "CNY", "--kafka", servers, "--topic", topic, "--at", AT)
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, SCRIPT, *order), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, wrong = await program.communicate()
        assert program.returncode == 0, wrong.decode()
        assert f"example-O-77-{AT} is on {topic}" in out.decode()
    status = await site.is_in(2)
    assert (status.events[Outcome.APPLIED], status.events[Outcome.DUPLICATE]) == (1, 1)
    assert status.customers == 1
