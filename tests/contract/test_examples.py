"""What docs/api.md tells a newcomer to do works, word for word, with a key and against a real port."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.contract.test_api_document import DOCUMENT
from tests.support.api import misfits
from tests.support.builders import an_order
from tests.support.sites import Site, site

from segmentation.access import Scope
from segmentation.storage.engine import create_engine

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLES: Final = ROOT / "docs" / "examples"
LINES: Final = re.findall(r"^```curl\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
WITHIN_SECONDS: Final = 120


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[Site]:
    """With the scopes that the page asks for, and no others."""
    engine: AsyncEngine = create_engine(database_url, application_name="tests", pool_size=4)
    async with site(engine, Scope.READ, Scope.DISPATCH, Scope.INGEST) as here:
        yield here
    await engine.dispose()


async def started(here: Site, *command: str | Path) -> asyncio.subprocess.Process:
    environment = dict(os.environ) | {"TIERLINE_API_KEY": here.key, "TIERLINE_URL": here.url}  # noqa: TID251 - handed on
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe)


async def told(here: Site, *command: str | Path) -> str:
    """What a program prints that ends well."""
    program = await started(here, *command)
    async with asyncio.timeout(WITHIN_SECONDS):
        out, wrong = await program.communicate()
    assert program.returncode == 0, wrong.decode()
    return out.decode()


def test_every_example_is_on_the_page() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(re.findall(r"\(examples/(\w+\.py)\)", PAGE))


async def test_every_line_of_curl_does_what_the_page_says(here: Site) -> None:
    """In the order of the page, so that the first makes the customer that the others ask for."""
    assert len(LINES) == 5
    posted, segment, explanation, ranking, changes = [await told(here, "bash", "-c", line) for line in LINES]
    answers = {
        "PostedEventsAnswer": posted,
        "SegmentAnswer": segment,
        "ExplanationAnswer": explanation,
        "DispatchAnswer": ranking,
    }
    for name, body in answers.items():
        assert list(misfits(json.loads(body), DOCUMENT["components"]["schemas"][name], DOCUMENT)) == [], body
    assert json.loads(posted)["outcomes"]["applied"] == 1
    assert json.loads(segment)["customer_id"] == "C-1042"
    assert not json.loads(explanation)["tier"]["words"][0].isascii()
    assert [order["known"] for order in json.loads(ranking)["orders"]] == [True, False]
    assert "event: change" in changes
    assert "event: end" in changes


async def test_the_first_lookup_says_where_a_customer_stands(here: Site) -> None:
    await here.closed.api.fed(an_order(customer_id="C-1042"))
    printed = await told(here, sys.executable, EXAMPLES / "first_lookup.py", "C-1042", "--api", here.url)
    assert printed.startswith("C-1042: tier A, ")
    missing = await started(here, sys.executable, EXAMPLES / "first_lookup.py", "nobody", "--api", here.url)
    _, wrong = await missing.communicate()
    assert (missing.returncode, b"send an event first" in wrong) == (1, True)


async def test_the_dispatcher_ranks_ten_thousand_orders_and_again_after_a_promotion(here: Site, tmp_path: Path) -> None:
    await here.closed.api.fed(
        an_order(customer_id="C-1", amount="9000.00"),
        an_order(event_id="order-2", order_id="O-2", customer_id="C-2", amount="10.00"),
    )
    orders: list[Any] = [
        {"order_id": f"W-{number}", "customer_id": f"C-{number % 3 + 1}", "waiting_since": "2026-11-22T08:00:00Z"}
        for number in range(10_000)
    ]
    file = tmp_path / "orders.json"
    file.write_text(json.dumps(orders), encoding="utf-8")
    script = (sys.executable, EXAMPLES / "dispatcher.py", file, "--api", here.url, "--first", "1", "--promotions", "1")
    program = await started(here, *script)
    assert program.stdout is not None
    async with asyncio.timeout(WITHIN_SECONDS):
        first = [(await program.stdout.readline()).decode() for _ in range(2)]
        # It follows since before it ranked, so this cannot come too early.
        promoting = an_order(event_id="order-3", order_id="O-3", customer_id="C-2", amount="90000.00")
        await here.closed.api.fed(promoting)
        rest, wrong = await program.communicate()
    assert program.returncode == 0, wrong.decode()
    assert first[0] == "10000 orders ranked\n"
    assert "C-1" in first[1]
    said = rest.decode().splitlines()
    assert said[:2] == ["C-2 is promoted to A", "10000 orders ranked"]
