"""What docs/dispatch.md says is so: its example, its policy, its figures, and the script that it offers."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
import pytest
import uvicorn
from bench import dispatch_day
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.contract.test_api_dispatch import order, placed
from tests.support.api import Api, running
from tests.support.ledgers import DEFAULT_POLICY

from segmentation import policy as policies
from segmentation.calendar import instant_of
from segmentation.dispatch import STANDARD_DISPATCH, WaitingOrder, prioritise
from segmentation.segments import Lifecycle
from segmentation.storage.engine import create_engine
from segmentation.tiering import TIERS, Tier

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "docs" / "dispatch.md").read_text(encoding="utf-8")
SCRIPT: Final = ROOT / "docs" / "examples" / "rank_orders.py"


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@asynccontextmanager
async def served(api: Api) -> AsyncIterator[str]:
    """The application on a port of its own."""
    transport = api.client._transport
    assert isinstance(transport, httpx.ASGITransport)
    server = uvicorn.Server(uvicorn.Config(transport.app, log_level="error", lifespan="off"))
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listener.close()


async def run(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    told, refused = await process.communicate()
    return process.returncode, told.decode(), refused.decode()


def test_the_policy_shown_is_the_one_that_counts() -> None:
    (section,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    shipped = DEFAULT_POLICY.index("[dispatch]"), DEFAULT_POLICY.index("# --- segments")
    shown = DEFAULT_POLICY.replace(DEFAULT_POLICY[slice(*shipped)], section)
    assert policies.parse(shown, version=1).dispatch == STANDARD_DISPATCH


def test_the_numbers_of_the_formula_are_the_shipped_ones() -> None:
    rules, shares = STANDARD_DISPATCH, STANDARD_DISPATCH.shares
    assert rules.patience_seconds == 35.6 * 3_600
    assert "35.6 hours" in PAGE
    tiers = ", ".join(f"{tier} {rules.tiers[tier]}" for tier in TIERS)
    shown = ", ".join(f"{tier} {float(shares[tier]):.0%}".replace("%", " %") for tier in TIERS)
    for said in (
        f"| tier | {tiers} |",
        f"| service level | {rules.level} × its",
        f"{rules.promise} × ({rules.promise_hours} h − time left) ÷ {rules.promise_hours} h",
        f"{rules.promise} + {rules.late} when it has passed",
        f"| waiting | {float(rules.ageing_per_hour)} for each hour",
        f"at risk, dormant or lost: {rules.risk[Lifecycle.LOST]}; won back: {rules.risk[Lifecycle.WON_BACK]};",
        f"a churn warning: {rules.churn_warning};",
        f"Shipped: {shown}.",
    ):
        assert said in PAGE, said


def test_the_worked_example_adds_up() -> None:
    at = instant_of(datetime(2026, 11, 22, 8, 15, 30, tzinfo=UTC))
    hour = 3_600_000_000
    vip = WaitingOrder("1", "a", Tier.A, "vip", 95, Lifecycle.ACTIVE, at + 3 * hour, at - 2 * hour)
    for waited, points, first in ((2, 42, 0), (20, 87, 1)):
        other = WaitingOrder("2", "b", Tier.B, "stable", 70, Lifecycle.ACTIVE, None, at - waited * hour)
        ranking = prioritise([vip, other], STANDARD_DISPATCH, at=at)
        assert ranking.positions[0] == first
        assert sorted(ranking.priorities) == sorted((85, points))
        assert f"**{points}**" in PAGE


def test_the_simulated_day_is_the_documented_one_and_keeps_what_is_said_of_it() -> None:
    """Run `make dispatch-simulation` where the figures are meant to change."""
    day = dispatch_day.make_day()
    outcomes = dispatch_day.compare(day)
    assert dispatch_day.documented(PAGE) == dispatch_day.table(day, outcomes)
    strict, first, ours = outcomes.values()
    in_a = [order.tier is Tier.A for order in day.orders]
    assert ours.kept[in_a].all()
    assert ours.kept.sum() > max(strict.kept.sum(), first.kept.sum())
    assert ours.waited[in_a].mean() < first.waited[in_a].mean() / 2
    assert max(ours.standstill.values()) == 0
    assert strict.standstill[Tier.C] > 12
    assert ours.waited.max() < strict.waited.max() * 0.6


def test_the_plot_is_where_the_page_looks_for_it() -> None:
    (path,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGE)
    svg = (ROOT / "docs" / path).read_text(encoding="utf-8")
    assert all(f">{name}<" in svg for name in ("strictly by tier", "first come", "Tierline", *TIERS))


async def test_the_script_ranks_the_orders_of_a_file(engine: AsyncEngine, tmp_path: Path) -> None:
    """Against a server of its own, over real HTTP; what is refused ends it with the API's own sentence."""
    async with running(engine) as api:
        await api.fed(placed("a", "80.00"), placed("b", "15.00"))
        async with served(api) as address:
            orders = tmp_path / "orders.json"
            orders.write_text(json.dumps([order("O-2", "b"), order("O-1", "a"), order("O-3", "nobody")]))
            status, told, _ = await run(str(orders), "--api", address, "--first", "2")
            assert status == 0
            lines = told.splitlines()
            assert lines[0] == "3 orders at 2026-11-22T12:00:00Z"
            assert [line.split()[:4] for line in lines[1:]] == [["1", "69", "O-1", "a"], ["2", "37", "O-2", "b"]]
            assert "tier A (+60); service level VIP (+9.5)" in lines[1]
            orders.write_text(json.dumps([order("O-1", "a")] * 2))
            status, told, refused = await run(str(orders), "--api", address)
            assert (status, told) == (1, "")
            assert "422: body.orders: each order of a customer is expected once" in refused
