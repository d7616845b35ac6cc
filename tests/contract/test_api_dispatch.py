"""Dispatch over HTTP: in which order orders go, why, and what becomes of strange questions, against the real store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import PROBLEM_TYPE, Api, cable_to, running
from tests.support.builders import a_customer, an_order
from tests.support.histories import NOW
from tests.support.ledgers import NO_GRACE

from segment_api.dispatch_schemas import MOST_ORDERS, DispatchAnswer
from segment_api.limits import LARGEST_BODY_BYTES
from segmentation.storage.engine import create_engine

PATH: Final = "/dispatch/priorities"


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    """Revenue 80, 15 and 5, so A, B and C."""
    async with running(engine, policy=NO_GRACE) as api:
        await api.fed(*(placed(name, amount) for name, amount in (("a", "80.00"), ("b", "15.00"), ("c", "5.00"))))
        yield api


def placed(customer_id: str, amount: str) -> dict[str, Any]:
    name = f"{customer_id} {amount}"
    return an_order(
        event_id=name, order_id=name, customer_id=customer_id, amount=amount, occurred_at="2026-11-20T12:00:00Z"
    )


def ago(**parts: float) -> str:
    return (NOW - timedelta(**parts)).strftime("%Y-%m-%dT%H:%M:%SZ")


def order(order_id: str, customer_id: str, **fields: Any) -> dict[str, Any]:
    return {"order_id": order_id, "customer_id": customer_id, **fields}


async def ranked(
    api: Api,
    *orders: dict[str, Any],
    query: str = "",
    language: str = "en",
    status: int = 200,
    **body: Any,
) -> dict[str, Any]:
    answer = await api.client.post(PATH + query, json={"orders": orders, **body}, headers={"Accept-Language": language})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == ("application/json" if status == 200 else PROBLEM_TYPE)
    found: dict[str, Any] = answer.json()
    return found


def ids(answer: dict[str, Any]) -> list[str]:
    return [each["order_id"] for each in answer["orders"]]


# --- the shape ------------------------------------------------------------------------------------------------------


async def test_an_answer_has_the_members_of_the_contract_in_their_order(api: Api) -> None:
    """A first, and each place with its reasons, in words and as codes."""
    answer = await ranked(
        api,
        order("O-3", "c"),
        order("O-1", "a", promised_at=ago(hours=-3), waiting_since=ago(hours=2)),
        order("O-2", "b"),
    )
    assert [list(answer), *map(list, answer["orders"][:1])] == [
        ["as_of", "at", "scale", "stale", "versions", "orders"],
        [
            *("order_id", "customer_id", "known", "rank", "priority", "value_tier", "service_level", "reasons"),
            "parts",
        ],
    ]
    assert answer | {"orders": []} == {
        "as_of": "2026-11-22",
        "at": "2026-11-22T12:00:00Z",
        "scale": "tierline",
        "stale": False,
        "versions": {"policy": 1},
        "orders": [],
    }
    assert answer["orders"][0] == {
        "order_id": "O-1",
        "customer_id": "a",
        "known": True,
        "rank": 1,
        "priority": 85,
        "value_tier": "A",
        "service_level": "vip",
        "reasons": [
            "tier A (+60)",
            "service level VIP (+9.5)",
            "promised in 3 h (+10.5)",
            "waiting for 2 h (+5)",
        ],
        "parts": [
            {"code": "tier", "value": "A", "points": 60.0},
            {"code": "service_level", "value": "vip", "points": 9.5},
            {"code": "promise", "value": "10800", "points": 10.5},
            {"code": "waiting", "value": "7200", "points": 5.0},
        ],
    }
    assert [(each["order_id"], each["rank"], each["priority"]) for each in answer["orders"]] == [
        ("O-1", 1, 85),
        ("O-2", 2, 37),
        ("O-3", 3, 4),
    ]


async def test_the_bytes_are_those_that_the_schema_gives(api: Api) -> None:
    """The answer is written past its schema, for speed, and is the same."""
    answer = await ranked(
        api,
        order("O-1", "a", promised_at=ago(hours=1), waiting_since=ago(days=40)),
        order("O-2", "b", waiting_since=ago(hours=-1)),
        order("O-\u00e9", "nobody \u5ba2"),
        *(order(f"B-{number}", "b") for number in range(5)),
        *(order(f"A-{number}", "a") for number in range(9)),
    )
    assert json.loads(DispatchAnswer.model_validate(answer).model_dump_json()) == answer
    assert list(DispatchAnswer.model_validate(answer).model_dump()["orders"][0]) == list(answer["orders"][0])


async def test_no_orders_are_no_mistake(api: Api) -> None:
    assert (await ranked(api))["orders"] == []


async def test_reasons_are_told_in_the_language_asked_for(api: Api) -> None:
    answer = await ranked(
        api,
        order("O-1", "a", promised_at=ago(hours=2), waiting_since=ago(minutes=90)),
        order("O-2", "nobody", promised_at=ago(days=-2)),
        language="zh",
    )
    assert [each["reasons"] for each in answer["orders"]] == [
        ["等级 A (+60)", "服务等级 贵宾服务 (+9.5)", "已超过承诺时间 2 小时 (+15)", "已等待 1 小时 30 分钟 (+3.75)"],
        ["等级 unrated (+0)", "服务等级 欢迎服务 (+5)", "未知客户, 默认服务等级", "距承诺时间 2 天 (+0)"],
    ]


# --- customers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("customer_id", ["nobody", "", "no id", "-", "x" * 65, "客户", "\u0000"])
async def test_whoever_is_unknown_or_malformed_is_ranked_at_the_default_level(api: Api, customer_id: str) -> None:
    (place,) = (await ranked(api, order("O-1", customer_id)))["orders"]
    assert (place["customer_id"], place["known"]) == (customer_id, False)
    assert (place["value_tier"], place["service_level"], place["priority"]) == ("unrated", "welcome", 5)
    assert "unknown customer, default level" in place["reasons"]


async def test_an_order_moves_up_with_its_customer_at_once(api: Api) -> None:
    """A promotion, and what a person decides, count in the next call."""
    orders = [order("O-1", "b"), order("O-2", "a")]
    assert ids(await ranked(api, *orders)) == ["O-2", "O-1"]
    await api.fed(placed("b", "900.00"))
    assert ids(await ranked(api, *orders)) == ["O-1", "O-2"]
    wanted = {"tier": "A", "reason": "contract", "author": "li.wei", "expires_on": "2027-01-01"}
    assert (await api.client.put("/customers/c/override", json=wanted)).status_code == 200
    places = (await ranked(api, order("O-3", "c")))["orders"]
    assert [(each["value_tier"], each["service_level"]) for each in places] == [("A", "vip")]


async def test_a_customer_at_risk_goes_before_others_of_its_kind(api: Api) -> None:
    silent = an_order(
        event_id="s", order_id="s", customer_id="silent", amount="5.00", occurred_at="2026-07-01T12:00:00Z"
    )
    await api.fed(placed("a", "100.00"), silent)
    answer = await ranked(api, order("O-1", "c"), order("O-2", "silent"))
    assert ids(answer) == ["O-2", "O-1"]
    assert answer["orders"][0]["reasons"][-1] == "risk: lifecycle at_risk (+4)"


async def test_the_policy_in_force_ranks(api: Api) -> None:
    """Points and shares follow the version in force, and the answer says which."""
    orders = [*(order(f"A-{number}", "a") for number in range(4)), *(order(f"C-{number}", "c") for number in range(2))]
    assert ids(await ranked(api, *orders)) == ["A-0", "A-1", "A-2", "A-3", "C-0", "C-1"]
    source = NO_GRACE.replace('C = "0.08"', 'C = "0.25"')
    assert source.count('C = "0.25"') == 1
    answer = await api.client.put("/policies/2", json={"source": source, "author": "li"})
    assert answer.status_code == 200, answer.text
    assert (await api.client.post("/policies/2/activate", json={"author": "li"})).status_code == 200
    answer_then = await ranked(api, *orders)
    assert answer_then["versions"] == {"policy": 2}
    assert ids(answer_then) == ["A-0", "A-1", "A-2", "C-0", "A-3", "C-1"]
    moved = answer_then["orders"][3]
    assert moved["reasons"][0] == "moved up: tier C has at least 25 % of the places"
    assert moved["parts"][0] == {"code": "minimum_share", "value": "C:0.25", "points": 0.0}
    # Whoever sorts by priority keeps the share.
    assert [each["priority"] for each in answer_then["orders"]] == [69, 69, 69, 69, 69, 4]


async def test_a_policy_under_which_a_would_not_go_first_is_refused(api: Api) -> None:
    answer = await api.client.put("/policies/2", json={"source": NO_GRACE.replace("\nA = 60", "\nA = 50")})
    assert answer.status_code == 422
    assert "[dispatch.tiers]: A is 50" in answer.json()["detail"]


# --- time -----------------------------------------------------------------------------------------------------------


async def test_a_ranking_can_be_repeated_at_its_instant(api: Api) -> None:
    orders = [
        order("O-1", "a", promised_at=ago(hours=-5), waiting_since=ago(hours=1)),
        order("O-2", "a", promised_at=ago(hours=-1)),
        order("O-3", "c", waiting_since=ago(hours=30)),
    ]
    first = await ranked(api, *orders)
    api.clock.advance(hours=4, microseconds=123_456)
    later = await ranked(api, *orders)
    assert later["at"] == "2026-11-22T16:00:00.123456Z"
    assert later["orders"] != first["orders"]
    assert await ranked(api, *orders, at=first["at"]) == first


async def test_waiting_makes_up_for_a_tier(api: Api) -> None:
    """24 hours for two tiers and the level, and not a minute sooner."""
    assert ids(await ranked(api, order("O-1", "a"), order("O-2", "c", waiting_since=ago(hours=26)))) == ["O-1", "O-2"]
    assert ids(await ranked(api, order("O-1", "a"), order("O-2", "c", waiting_since=ago(hours=27)))) == ["O-2", "O-1"]


async def test_strange_times_are_bounded_and_said_so(api: Api) -> None:
    """A clock that is ahead costs nothing but the ageing; the year 1 counts as ten years."""
    answer = await ranked(
        api,
        order("O-1", "c", waiting_since="9999-12-31T23:59:59Z", promised_at="9999-12-31T23:59:59Z"),
        order("O-2", "c", waiting_since="0001-01-01T00:00:00Z", promised_at="0001-01-01T00:00:00Z"),
    )
    assert ids(answer) == ["O-2", "O-1"]
    old, ahead = answer["orders"]
    assert [(part["code"], part["points"]) for part in old["parts"][2:]] == [("late", 15.0), ("waiting", 219_000.0)]
    assert [(part["code"], part["points"]) for part in ahead["parts"][2:]] == [
        ("promise", 0.0),
        ("waiting_since_future", 0.0),
    ]
    assert "waiting_since lies in the future: counted as not waiting" in ahead["reasons"]


# --- questions that are refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ({"orders": [order("O-1", "a", promised_at="2026-11-22")]}, "body.orders.0.promised_at"),
        ({"orders": [order("O-1", "a"), order("O-2", "a", waiting_since=5)]}, "body.orders.1.waiting_since"),
        ({"orders": [order("O-1", "a", waiting_since="2026-11-22T24:00:00Z")]}, "body.orders.0.waiting_since"),
        ({"orders": [order("O-1", "a", waiting_since="2026-11-22T12:00:00")]}, "body.orders.0.waiting_since"),
        ({"orders": [order("", "a")]}, "body.orders.0.order_id"),
        ({"orders": [order("x" * 65, "a")]}, "body.orders.0.order_id"),
        ({"orders": [{"order_id": "O-1"}]}, "body.orders.0.customer_id"),
        ({"orders": [{"customer_id": "a"}]}, "body.orders.0.order_id"),
        ({"orders": [order("O-1", "\ud800")]}, "body.orders.0.customer_id"),
        ({"orders": [1]}, "body.orders.0"),
        ({"orders": None}, "body.orders"),
        ({}, "body.orders"),
        ({"orders": [], "at": "now"}, "body.at"),
        ({"orders": [], "at": "0001-01-01T00:00:00+23:59"}, "body.at"),
    ],
)
async def test_what_is_malformed_is_refused_by_name(api: Api, question: dict[str, Any], field: str) -> None:
    answer = await api.client.post(PATH, content=json.dumps(question), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert [each["field"] for each in answer.json()["errors"]] == [field]


async def test_an_order_twice_is_refused_by_name(api: Api) -> None:
    """Two ranks for one order would send two lorries; two customers may have an order of one name."""
    await ranked(api, order("O-1", "a"), order("O-1", "b"))
    problem = await ranked(
        api, *[order("O-1", "a")] * 3, *(order(f"O-{n}", "b") for n in (*range(9), *range(9))), status=422
    )
    assert problem["errors"][0]["field"] == "body.orders"
    assert problem["detail"].startswith("body.orders: each order of a customer is expected once; more than once: ")
    assert "'O-1' of 'a', 'O-0' of 'b'" in problem["detail"]
    assert problem["detail"].endswith("and 5 more")
    long = await ranked(api, *[order("O-1", "x" * 100_000)] * 2, status=422)
    assert len(long["detail"]) < 500


async def test_an_unknown_scale_is_refused(api: Api) -> None:
    problem = await ranked(api, query="?scale=kelvin", status=422)
    assert problem["errors"][0]["field"] == "query.scale"


async def test_null_is_absent(api: Api) -> None:
    nulls = await ranked(api, order("O-1", "a", promised_at=None, waiting_since=None), at=None)
    assert nulls == await ranked(api, order("O-1", "a"))


async def test_ten_thousand_orders_with_the_longest_ids_pass_and_one_more_does_not(api: Api) -> None:
    since = "2026-11-22T08:15:30.123456789+08:00"
    orders = [
        order(f"{number:064}", f"X{number % 5_000:063}", promised_at=since, waiting_since=since)
        for number in range(MOST_ORDERS + 1)
    ]
    assert len(json.dumps({"orders": orders})) < LARGEST_BODY_BYTES
    answer = await ranked(api, *orders[:-1])
    assert [each["rank"] for each in answer["orders"]] == list(range(1, MOST_ORDERS + 1))
    problem = await ranked(api, *orders, status=422)
    assert problem["errors"][0]["field"] == "body.orders"


# --- other tools ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "priorities"), [("tierline", [69, 37, 4]), ("sap", [32, 63, 96]), ("vroom", [100, 10, 1])]
)
async def test_priorities_on_the_scales_of_other_tools(api: Api, scale: str, priorities: list[int]) -> None:
    """Ranks and reasons stay as they are."""
    orders = [order("O-1", "a"), order("O-2", "b"), order("O-3", "c")]
    answer = await ranked(api, *orders, query=f"?scale={scale}")
    assert answer["scale"] == scale
    assert [each["priority"] for each in answer["orders"]] == priorities
    plain = await ranked(api, *orders)
    assert [each | {"priority": 0} for each in answer["orders"]] == [each | {"priority": 0} for each in plain["orders"]]


# --- when something is behind or away -------------------------------------------------------------------------------


async def test_tiers_that_are_behind_make_a_stale_answer(api: Api) -> None:
    """As of a day that the tiers have not been settled for."""
    assert (await ranked(api, order("O-1", "a")))["stale"] is False
    api.clock.advance(days=1)
    answer = await ranked(api, order("O-1", "a"))
    assert (answer["as_of"], answer["stale"]) == ("2026-11-23", True)


async def test_without_the_database_it_is_503_with_retry_after(database_url: str) -> None:
    async with cable_to(database_url) as (cable, engine), running(engine) as api:
        await cable.cut()
        answer = await api.client.post(PATH, json={"orders": [order("O-1", "a")]})
        assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM_TYPE)
        assert int(answer.headers["retry-after"]) > 0
        await cable.plug()


async def test_an_empty_house_ranks_unknown_customers(engine: AsyncEngine) -> None:
    async with running(engine, clock="event") as api:
        answer = await ranked(api, order("O-1", "a"))
        assert (answer["as_of"], answer["orders"][0]["known"]) == (None, False)


async def test_a_customer_is_asked_for_once_however_many_orders_it_has(api: Api) -> None:
    await api.fed(a_customer(customer_id="b", name="B Ltd"))
    answer = await ranked(api, *(order(f"O-{number}", "b") for number in range(50)))
    assert ids(answer) == sorted(f"O-{number}" for number in range(50))
