"""The interface under fire: whatever is sent to it by somebody with a key, no 500, and answers as the document says.

Schemathesis reads the document that is served and makes requests from it, right ones and wrong ones; the seed is fixed,
so that a failure comes again. For a longer look, with every bound of every schema in turn:
`FUZZ_PHASES=examples,coverage,fuzzing FUZZ_EXAMPLES=200 FUZZ_SEED=7 make test ARGS="-k fuzz"`.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.contract.test_api_document import OPERATIONS
from tests.support.builders import a_complaint, a_customer, a_feedback, a_return, an_order
from tests.support.ledgers import house_of
from tests.support.models import put_in_force
from tests.support.oracle import Message, Setting
from tests.support.sites import site

from segment_api.authenticating import Limits
from segmentation.storage.engine import create_engine

EXAMPLES: Final = os.environ.get("FUZZ_EXAMPLES", "8")  # noqa: TID251 - the test's own setting
PHASES: Final = os.environ.get("FUZZ_PHASES", "examples,fuzzing")  # noqa: TID251 - the test's own setting
SEED: Final = os.environ.get("FUZZ_SEED", "20261122")  # noqa: TID251 - the test's own setting
ROOT: Final = Path(__file__).resolve().parents[2]
CONFIGURATION: Final = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


async def test_no_request_breaks_the_interface(engine: AsyncEngine, tmp_path: Path) -> None:
    async with site(engine, limits=Limits(failures_per_minute=1e6)) as here:  # wrong keys are part of the fire
        await here.closed.api.fed(
            # The ids of the document's examples, so that they find somebody.
            an_order(customer_id="C-1042", cost="40.00", weight_kg=1.5),
            a_return(customer_id="C-1042"),
            a_complaint(customer_id="C-2"),
            a_feedback(customer_id="C-1042"),
            a_customer(customer_id="C-2", region="north", industry="pharma"),
            Message(None),
            Message(b"{"),
        )
        await put_in_force(engine, house_of(Setting()))
        fuzzer = await asyncio.create_subprocess_exec(
            *(Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIGURATION, "run"),
            *(f"{here.url}/openapi.json", "--header", f"Authorization: Bearer {here.key}"),
            *("--phases", PHASES),
            *("--seed", SEED, "--max-examples", EXAMPLES, "--continue-on-failure", "--workers", "1", "--no-color"),
            cwd=tmp_path,  # it leaves files
            env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},  # noqa: TID251 - handed on
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert fuzzer.stdout is not None
        said = (await fuzzer.stdout.read()).decode()
        assert await fuzzer.wait() == 0, said
    tested = re.search(r"Tested: (\d+)", said)
    assert tested is not None, said
    assert int(tested[1]) == len(OPERATIONS), said
