"""What callers of the HTTP interface rely on: every route over a real database, shape by shape and figure by figure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import PROBLEM_TYPE, Api, everything_in, running
from tests.support.builders import (
    a_cancellation,
    a_complaint,
    a_customer,
    a_delivery,
    a_feedback,
    a_retraction,
    a_return,
    an_order,
    as_message,
)
from tests.support.ledgers import DEFAULT_POLICY, TOPIC, rates_of
from tests.support.oracle import Message

from segmentation.fields import CustomerId
from segmentation.outcomes import Partition
from segmentation.storage.engine import create_engine

WELCOME: Final = {
    "code": "welcome",
    "name": "Welcome",
    "dispatch_priority": 50,
    "actions": ["welcome_contact", "onboarding"],
}


MORE_OF_A_LEVEL: Final = [
    "description", "response_hours", "complaint_hours", "delivery_commitment", "channel", "dedicated_manager",
    "callback_days", "review_days", "survey_days", "offers", "playbooks", "retention_level", "owner", "additions",
    "relationship",
]  # fmt: skip
"""What a service level has beside the fields that the contract names."""


def of_contract(level: dict[str, Any]) -> dict[str, Any]:
    """A service level without what was added to the contract's fields."""
    return {name: value for name, value in level.items() if name not in MORE_OF_A_LEVEL}


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    async with running(engine) as api:
        yield api


def order_of(customer_id: str, amount: str, *, on: str = "2026-11-20", **fields: Any) -> dict[str, Any]:
    """An order with ids of its own."""
    name = f"{customer_id} {amount} {on}"[-64:]
    return an_order(
        **({"event_id": name, "order_id": name, "customer_id": customer_id, "amount": amount} | fields),
        occurred_at=f"{on}T12:00:00Z",
    )


# --- a customer's segment -------------------------------------------------------------------------------------------


async def test_the_segment_of_a_customer_has_exactly_the_shape_of_the_contract(api: Api) -> None:
    """Keys, nesting and values, and nothing besides but what more there is to say of a service level."""
    await api.fed(order_of("C-1", "100.00", on="2026-08-01"))
    answer = await api.segment("C-1")
    level = answer["recommended_service_level"]
    assert answer | {"recommended_service_level": of_contract(level)} == {
        "customer_id": "C-1",
        "as_of": "2026-11-22",
        "segment": {
            "code": "key_at_risk",
            "name": "Key customer at risk",
            "since": "2026-11-22",
            "source": "rules",
            "confidence": None,
        },
        "lifecycle": "at_risk",
        "value_tier": "A",
        "tier": {
            "effective": "A",
            "computed": "A",
            "since": "2026-11-22",
            "demotion_due": None,
            "override": None,
        },
        "value_level": "high",
        "risk": {"churn_probability": None, "warning": True},
        "recommended_service_level": {
            "code": "vip",
            "name": "VIP",
            "dispatch_priority": 95,
            "actions": ["dedicated_manager", "fast_response", "first_in_dispatch", "retention_plan"],
            "reasons": ["tier A"],
        },
        "stale": False,
        "versions": {"policy": 1, "model": None},
        "updated_at": "2026-11-22T12:00:00.000Z",
    }


async def test_the_members_of_an_answer_stand_in_the_order_of_the_contract(api: Api) -> None:
    """Whoever compares an answer with the contract by eye finds the same order."""
    await api.fed(order_of("C-1", "100.00"))
    answer = await api.segment()
    assert list(answer) == [
        "customer_id", "as_of", "segment", "lifecycle", "value_tier", "tier", "value_level", "risk",
        "recommended_service_level", "stale", "versions", "updated_at",
    ]  # fmt: skip
    assert list(answer["segment"]) == ["code", "name", "since", "source", "confidence"]
    assert list(answer["tier"]) == ["effective", "computed", "since", "demotion_due", "override"]
    level = answer["recommended_service_level"]
    assert list(level) == ["code", "name", "dispatch_priority", "actions", "reasons", *MORE_OF_A_LEVEL]


async def test_a_customer_without_revenue_is_unrated_and_welcome(api: Api) -> None:
    """One complaint makes a customer known."""
    await api.fed(a_complaint(customer_id="C-9"))
    answer = await api.segment("C-9")
    assert (answer["lifecycle"], answer["value_tier"], answer["tier"]["computed"]) == ("prospect", "unrated", "unrated")
    assert answer["segment"]["code"] == "newcomer"
    assert of_contract(answer["recommended_service_level"]) == WELCOME | {"reasons": ["default for unrated"]}


async def test_each_tier_has_its_value_level_and_service_level(api: Api) -> None:
    await api.fed(
        order_of("big", "80.00"),
        order_of("middle", "15.00"),
        order_of("small", "5.00"),
        a_complaint(customer_id="none"),
    )
    answers = (await api.segments("big", "middle", "small", "none"))["customers"]
    assert [
        (each["value_tier"], each["value_level"], each["recommended_service_level"]["code"]) for each in answers
    ] == [("A", "high", "vip"), ("B", "medium", "stable"), ("C", "low", "standard"), ("unrated", "low", "welcome")]


async def test_names_and_reasons_follow_the_language_and_codes_never_do(api: Api) -> None:
    await api.fed(order_of("C-1", "100.00"))
    english, chinese = await api.segment(), await api.segment(headers={"Accept-Language": "zh"})
    assert chinese["segment"]["name"] == "战略伙伴"
    assert chinese["recommended_service_level"]["name"] == "贵宾服务"
    assert chinese["recommended_service_level"]["reasons"] == ["等级 A"]
    assert chinese["recommended_service_level"]["relationship"]["name"] == "服务支持"
    assert chinese["recommended_service_level"]["offers"][0]["name"] == "定制物流方案"
    for answer in (english, chinese):
        answer["segment"].pop("name")
        level = answer["recommended_service_level"]
        for each in ("name", "reasons", "description", "delivery_commitment"):
            level.pop(each)
        for each in (*level["offers"], *level["additions"], *level["playbooks"], level["relationship"]):
            each.pop("name")
    assert english == chinese


@pytest.mark.parametrize(
    ("accept_language", "name"),
    [
        ("en", "Strategic partner"),
        ("zh", "战略伙伴"),
        ("zh-CN", "战略伙伴"),
        ("ZH-hant-TW", "战略伙伴"),
        ("fr, zh-CN;q=0.8, en;q=0.5", "战略伙伴"),
        ("en;q=0.5, zh;q=0.8", "战略伙伴"),
        ("zh;q=0.5,en;q=0.8", "Strategic partner"),
        ("zh;q=0, en;q=0.1", "Strategic partner"),
        ("zh;q=0", "Strategic partner"),
        ("fr", "Strategic partner"),
        ("*", "Strategic partner"),
        ("", "Strategic partner"),
    ],
)
async def test_the_language_is_the_best_of_those_asked_for(api: Api, accept_language: str, name: str) -> None:
    await api.fed(order_of("C-1", "100.00"))
    asked = {"Accept-Language": accept_language}
    answer = await api.ask("/customers/C-1/segment", headers=asked)
    assert answer.json()["segment"]["name"] == name
    assert answer.headers["content-language"] == ("zh" if name == "战略伙伴" else "en")
    assert "accept-language" in answer.headers["vary"].lower()
    bulk = await api.segments("C-1", headers=asked)
    assert bulk["customers"][0]["segment"]["name"] == name


# --- the tag of an answer -------------------------------------------------------------------------------------------


async def test_an_answer_that_has_not_changed_is_304_without_a_body(api: Api) -> None:
    await api.fed(order_of("C-1", "100.00"))
    first = await api.ask("/customers/C-1/segment")
    tag = first.headers["etag"]
    assert re.fullmatch(r'"[!#-~]+"', tag)
    for wanted in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await api.ask("/customers/C-1/segment", status=304, headers={"If-None-Match": wanted})
        assert again.content == b""
        assert again.headers["etag"] == tag
    await api.ask("/customers/C-1/segment", headers={"If-None-Match": '"other"'})
    await api.ask("/customers/C-1/segment", headers={"If-None-Match": tag.strip('"')})


async def test_the_tag_covers_the_language(api: Api) -> None:
    await api.fed(order_of("C-1", "100.00"))
    tag = (await api.ask("/customers/C-1/segment")).headers["etag"]
    chinese = await api.ask("/customers/C-1/segment", headers={"If-None-Match": tag, "Accept-Language": "zh"})
    assert chinese.headers["etag"] != tag


async def test_the_tag_follows_what_happens(api: Api) -> None:
    """An event that moves the customer moves the tag, and one of somebody else that moves nothing does not."""
    await api.fed(order_of("C-1", "100.00"))
    tag = (await api.ask("/customers/C-1/segment")).headers["etag"]
    await api.fed(a_complaint(customer_id="C-2"))
    await api.ask("/customers/C-1/segment", status=304, headers={"If-None-Match": tag})
    await api.fed(order_of("C-2", "1000.00"))
    assert (await api.ask("/customers/C-1/segment", headers={"If-None-Match": tag})).headers["etag"] != tag


async def test_a_tag_is_not_a_customer(api: Api) -> None:
    """Whatever tag is sent, an unknown customer is 404."""
    await api.ask("/customers/nobody/segment", status=404, headers={"If-None-Match": "*"})


# --- metrics, against the oracle ------------------------------------------------------------------------------------

RATES: Final = (
    ("USD", "2020-01-01", "7.123456789012"),
    ("USD", "2026-11-16", "1000000"),
    ("JPY", "2020-01-01", "0.045"),
    ("KWD", "2020-01-01", "23.5"),
    ("CNY", "2020-01-01", "0.142857142857"),
)


def a_nasty_history(currency: str) -> Sequence[dict[str, Any] | Message]:
    """Everything at its edges: windows, versions, currencies, retractions, rounding, digits beyond 64 bits."""
    edges = ("2026-11-16", "2026-11-15", "2026-10-24", "2026-10-23", "2026-08-25", "2026-08-24", "2025-11-23")
    return [
        # a customer with an order on either side of each window's edge, of very large and very small amounts
        *(order_of("C-1", "999999999999", on=day, currency="USD", items=10**9, weight_kg=0.001) for day in edges),
        order_of("C-1", "3", on="2025-11-22", currency="JPY", cost="8"),
        # late in the business day of Shanghai is the day before in UTC
        an_order(event_id="s", order_id="s", occurred_at="2026-11-15T16:30:00Z", currency=currency, amount="7"),
        # versions out of order, a cancellation, an order after its cancellation
        order_of("B", "50", order_id="v", event_id="v2", on="2026-11-10", currency=currency, cost="60", parcels=3),
        order_of("B", "70", order_id="v", event_id="v1", on="2026-11-09", currency=currency, cost="1"),
        order_of("B", "900", order_id="gone", currency=currency, on="2026-11-01"),
        a_cancellation(customer_id="B", order_id="gone", occurred_at="2026-11-02T00:00:00Z"),
        order_of("B", "31", order_id="back", currency=currency, on="2026-11-05"),
        a_cancellation(event_id="x", customer_id="B", order_id="back", occurred_at="2026-11-04T00:00:00Z"),
        # on time, late, and never delivered
        a_delivery(event_id="d1", customer_id="B", order_id="back"),
        order_of("B", "1", on="2026-11-06", currency=currency, promised_at="2026-11-07T00:00:00Z", weight_kg=0.1),
        order_of(
            "B",
            "2",
            on="2026-11-07",
            currency=currency,
            promised_at="2026-11-07T00:00:00Z",
            delivered_at="2026-11-07T00:00:00.000001Z",
            weight_kg=0.2,
        ),
        a_feedback(event_id="f1", customer_id="B", occurred_at="2026-11-20T00:00:00Z", score=Decimal("0.1")),
        a_feedback(
            event_id="f2", customer_id="B", occurred_at="2026-11-20T00:00:00Z", score=Decimal("0.2"), kind="nps"
        ),
        a_feedback(event_id="f3", customer_id="B", occurred_at="2026-11-20T00:00:00Z", score=10),
        # more comes back than went out
        a_return(event_id="r1", customer_id="b", amount="1000", currency="USD", occurred_at="2026-11-21T00:00:00Z"),
        # all of it comes back: neither -0 nor a tier
        order_of("zero", "12", currency=currency),
        a_return(event_id="r2", customer_id="zero", amount="12", currency=currency, occurred_at="2026-11-21T00:00:00Z"),
        # a loss that rounds to nothing
        order_of("Z" + "9" * 63, "1", currency="CNY", cost="1.01", on="2026-01-05"),
        # taken back before it is known, and twice
        a_retraction(event_id="t1", customer_id="C-1", retracts="c1", occurred_at="2026-11-01T00:00:00Z"),
        a_complaint(event_id="c1", customer_id="C-1", occurred_at="2026-11-10T00:00:00Z"),
        a_complaint(event_id="c2", customer_id="C-1", occurred_at="2026-11-10T00:00:00Z", severity=5),
        a_retraction(event_id="t2", customer_id="B", retracts="c2", occurred_at="2026-11-11T00:00:00Z"),
        a_customer(event_id="p", customer_id="c:only.a_profile", name="小北"),
        # equal revenue: the byte order of the ids decides
        order_of("tie-b", "5", currency=currency),
        order_of("tie-A", "5", currency=currency),
        order_of("tie-a", "5", currency=currency),
        # and what counts nothing
        Message(b"{"),
        as_message(order_of("B", "1", on="2026-11-06", currency=currency, weight_kg=9)),
        order_of("B", "5.00", currency="XAU"),
    ]


@pytest.mark.parametrize(
    ("base_currency", "timezone"), [("CNY", "UTC"), ("JPY", "Asia/Shanghai"), ("KWD", "Pacific/Apia")]
)
@pytest.mark.parametrize("clock", ["system", "event"])
async def test_metrics_and_tiers_equal_the_oracles(
    engine: AsyncEngine, base_currency: str, timezone: str, clock: str
) -> None:
    """Digit for digit, for everyone in a small history that is nasty on purpose."""
    rates = tuple(rate for rate in RATES if rate[0] != base_currency)
    async with running(engine, base_currency=base_currency, timezone=timezone, clock=clock, rates=rates) as api:
        await api.fed(*a_nasty_history(base_currency))
        assert api.oracle.counts["rejected"] == 3
        customers = api.oracle.customers()
        assert len(customers) == 9
        for customer_id in customers:
            answer = await api.ask(f"/customers/{customer_id}/metrics")
            # Floats are compared by their digits, and no number may turn into another kind.
            assert json.dumps(answer.json()) == json.dumps(api.oracle.metrics(customer_id, api.as_of))
        await tiers_equal_the_oracles(api)
        status = await api.read("/ingest/status")
        assert status["events"] == api.oracle.counts
        assert status["customers"] == len(customers)
        answers = (await api.segments(*customers))["customers"]
        computed = {each["customer_id"]: each["tier"]["computed"] for each in answers}
        assert computed == api.oracle.computed_tiers(api.as_of)


async def tiers_equal_the_oracles(api: Api) -> None:
    """`GET /tiers` says what the oracle says of everyone."""
    overview = await api.read("/tiers")
    values, tiers = api.oracle.net_revenue_365(api.as_of), api.oracle.computed_tiers(api.as_of)
    sums = {
        tier: [values[customer_id] for customer_id, its in tiers.items() if its == tier]
        for tier in ("A", "B", "C", "unrated")
    }
    total = sum(sum(sums[tier]) for tier in ("A", "B", "C"))
    money = api.oracle._money
    assert overview["as_of"] == api.as_of.isoformat()
    assert overview["basis"] == "net_revenue"
    assert overview["total"] == money(total)
    assert overview["cutoffs"] == {
        tier: last and {"net_revenue": money(last[0]), "customer_id": last[1]}
        for tier, last in api.oracle.cutoffs(api.as_of).items()
    }
    assert overview["tiers"] == [
        {
            "tier": tier,
            "customers": len(of_tier),
            "net_revenue": money(sum(of_tier)),
            "share": sum(of_tier) / total if total and tier != "unrated" else None,
        }
        for tier, of_tier in sums.items()
    ]


async def test_metrics_have_exactly_the_shape_of_the_contract(api: Api) -> None:
    await api.fed(a_complaint(customer_id="C-9"))
    answer = await api.read("/customers/C-9/metrics")
    assert list(answer) == ["customer_id", "as_of", "windows", "lifetime"]
    assert list(answer["windows"]) == ["7d", "30d", "90d", "365d"]
    assert answer["windows"]["7d"] == {
        "orders": 0,
        "gross_revenue": "0.00",
        "returned_amount": "0.00",
        "net_revenue": "0.00",
        "gross_profit": None,
        "items": 0,
        "parcels": 0,
        "weight_kg": 0.0,
        "returns": 0,
        "complaints": 0,
        "return_rate": None,
        "complaint_rate": None,
        "average_order_value": None,
        "on_time_rate": None,
        "feedback_score": None,
    }
    assert answer["lifetime"] == {
        "first_order_day": None,
        "last_order_day": None,
        "orders": 0,
        "net_revenue": "0.00",
        "recency_days": None,
        "mean_days_between_orders": None,
    }


@pytest.mark.parametrize(
    ("base_currency", "amount", "shown"),
    [("JPY", "1234", "1234"), ("JPY", "0", "0"), ("CNY", "1234.5", "1234.50"), ("KWD", "0.001", "0.001")],
)
async def test_money_has_exactly_the_decimals_of_the_base_currency(
    engine: AsyncEngine, base_currency: str, amount: str, shown: str
) -> None:
    """Everywhere: in windows, lifetime, ranking and cut-offs."""
    async with running(engine, base_currency=base_currency) as api:
        await api.fed(order_of("C-1", amount, currency=base_currency))
        metrics = await api.read("/customers/C-1/metrics")
        assert metrics["windows"]["365d"]["gross_revenue"] == metrics["lifetime"]["net_revenue"] == shown
        assert metrics["windows"]["365d"]["average_order_value"] == shown
        overview = await api.read("/tiers")
        assert overview["total"] == shown
        assert overview["cutoffs"]["A"] == ({"net_revenue": shown, "customer_id": "C-1"} if Decimal(amount) else None)


@pytest.mark.parametrize("base_currency", ["JPY", "CNY", "KWD"])
async def test_nothing_is_ever_minus_zero(engine: AsyncEngine, base_currency: str) -> None:
    """A loss of less than half a minor unit, and revenue that all came back."""
    rates = (("USD", "2020-01-01", "0.000001"),)
    async with running(engine, base_currency=base_currency, rates=rates) as api:
        await api.fed(
            order_of("C-1", "0.01", currency="USD", cost="1"),
            order_of("C-2", "5", currency=base_currency),
            a_return(customer_id="C-2", amount="5", currency=base_currency),
        )
        for path in ("/customers/C-1/metrics", "/customers/C-2/metrics", "/tiers"):
            for value in everything_in(await api.read(path)):
                assert not re.fullmatch(r"-0*(\.0*)?", str(value)), path


async def test_a_loss_is_shown_as_one(api: Api) -> None:
    await api.fed(a_return(customer_id="C-1", amount="0.05"))
    assert (await api.read("/customers/C-1/metrics"))["lifetime"]["net_revenue"] == "-0.05"
    unrated = (await api.read("/tiers"))["tiers"][-1]
    assert unrated == {"tier": "unrated", "customers": 1, "net_revenue": "-0.05", "share": None}


# --- what is done for a customer ------------------------------------------------------------------------------------


async def test_a_service_has_all_that_an_operation_needs(api: Api) -> None:
    """The level, and what industry and attributes add to it; reasons say why."""
    await api.fed(
        order_of("C-1", "100.00", services=["express"], region="East"),
        a_customer(
            name="Acme", industry="pharma", subject_type="company", attributes={"credit_hold": "yes", "note": "x" * 99}
        ),
    )
    level = (await api.segment())["recommended_service_level"]
    assert (level["code"], level["dispatch_priority"], level["response_hours"], level["complaint_hours"]) == (
        *("vip", 95, 1, 4),
    )
    assert level["actions"][3:] == ["dedicated_team", "payment_before_dispatch"]
    assert [each["code"] for each in level["playbooks"]] == ["pharma"]
    assert (level["owner"], level["dedicated_manager"], level["retention_level"]) == ("finance", True, "structural")
    assert level["additions"] == [
        {"code": "pharma", "name": "Pharma", "reasons": ["industry pharma", "tier A"]},
        {"code": "credit_hold", "name": "Credit hold", "reasons": ["attributes.credit_hold yes"]},
    ]
    assert level["relationship"] == {
        "strategy": "service_support",
        "name": "Service support",
        "knowledge": 4 / 9,
        "individualisation": 1.0,
    }


async def test_an_earlier_orders_region_counts_again_when_the_latest_is_cancelled(engine: AsyncEngine) -> None:
    """In any order of arrival, and in the store as in a look at all orders."""
    async with running(engine) as api:
        await api.fed(order_of("C-1", "10.00", on="2026-11-01", region="East", channel="web"))
        await api.fed(order_of("C-1", "20.00", on="2026-11-03", region="West"))
        await api.fed(order_of("C-1", "30.00", on="2026-11-02", region="North", channel="edi"))
        facets = (await api.store.snapshots())[CustomerId("C-1")].facets
        assert (facets.region, facets.channel) == ("West", "edi")
        cancelled = "C-1 20.00 2026-11-03"
        await api.fed(a_cancellation(event_id="x", order_id=cancelled, occurred_at="2026-11-04T00:00:00Z"))
        facets = (await api.store.snapshots())[CustomerId("C-1")].facets
        assert (facets.region, facets.channel) == ("North", "edi")
        await api.fed(a_customer(region="South", event_id="y"))
        facets = (await api.store.snapshots())[CustomerId("C-1")].facets
        assert (facets.region, facets.channel) == ("South", "edi")


# --- many customers at once -----------------------------------------------------------------------------------------


async def test_many_are_answered_in_the_order_asked_for_each_once(api: Api) -> None:
    """Known ones as `GET` answers them; unknown and malformed ids at the default level."""
    await api.fed(*(order_of(each, "10.00") for each in ("C-1", "C-2", "C-3")))
    asked = ["C-3", "nobody", "C-1", "not an id!", "C-3", "", "nobody", "\u0000", "x" * 65, "客户", "C-2"]
    answer = await api.segments(*asked)
    assert list(answer) == ["as_of", "customers", "unknown"]
    assert answer["as_of"] == "2026-11-22"
    assert answer["customers"] == [await api.segment(each) for each in ("C-3", "C-1", "C-2")]
    assert [
        each | {"recommended_service_level": of_contract(each["recommended_service_level"])}
        for each in answer["unknown"]
    ] == [
        {"customer_id": each, "recommended_service_level": WELCOME | {"reasons": ["unknown customer"]}}
        for each in ("nobody", "not an id!", "", "\u0000", "x" * 65, "客户")
    ]


async def test_the_level_of_unknown_customers_is_named_in_the_language_asked_for(api: Api) -> None:
    answer = await api.segments("nobody", headers={"Accept-Language": "zh"})
    level = answer["unknown"][0]["recommended_service_level"]
    assert (level["code"], level["name"], level["reasons"]) == ("welcome", "欢迎服务", ["未知客户"])


async def test_nobody_asked_for_is_nobody_answered(api: Api) -> None:
    assert await api.segments() == {"as_of": "2026-11-22", "customers": [], "unknown": []}


async def test_ten_thousand_ids_of_any_length_are_answered(api: Api) -> None:
    """The longest ids, and all ids known."""
    await api.fed(*(a_complaint(event_id=f"e{number}", customer_id=f"C-{number}") for number in range(2_000)))
    known = [f"C-{number}" for number in range(2_000)]
    unknown = [f"{number:064}" for number in range(8_000)]
    answer = await api.segments(*known, *unknown)
    assert [each["customer_id"] for each in answer["customers"]] == known
    assert [each["customer_id"] for each in answer["unknown"]] == unknown


async def test_ten_thousand_and_one_ids_are_one_too_many(api: Api) -> None:
    """Counted as sent, also where they repeat."""
    answer = await api.client.post("/customers/segments", json={"customer_ids": ["C-1"] * 10_001})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == PROBLEM_TYPE
    assert answer.json()["errors"][0]["field"] == "body.customer_ids"
    assert "10000" in answer.json()["detail"].replace(",", "")


async def test_unknown_members_of_a_question_are_no_error(api: Api) -> None:
    """What a later version asks for does not break this one."""
    answer = await api.client.post("/customers/segments", json={"customer_ids": ["C-1"], "more": 1})
    assert answer.status_code == 200


async def test_before_the_first_event_everyone_is_unknown(engine: AsyncEngine) -> None:
    """With the events' clock there is no as_of yet."""
    async with running(engine, clock="event") as api:
        answer = await api.segments("C-1")
        assert (answer["as_of"], answer["customers"]) == (None, [])
        assert answer["unknown"][0]["recommended_service_level"]["code"] == "welcome"
        await api.ask("/customers/C-1/segment", status=404)
        await api.ask("/customers/C-1/metrics", status=404)
        status = await api.read("/ingest/status")
        assert (status["as_of"], status["tiers"]) == (None, {"as_of": None, "current": True})
        assert (await api.read("/tiers"))["as_of"] is None


# --- the ranking of everyone ----------------------------------------------------------------------------------------


async def test_the_ranking_has_exactly_the_shape_of_the_contract(api: Api) -> None:
    await api.fed(
        order_of("C-1", "75.00"),
        order_of("C-2", "20.00"),
        order_of("C-3", "5.00"),
        order_of("C-4", "1.00"),
        a_return(event_id="r", customer_id="C-4", amount="2.00"),
    )
    assert await api.read("/tiers") == {
        "as_of": "2026-11-22",
        "basis": "net_revenue",
        "total": "100.00",
        "cutoffs": {
            "A": {"net_revenue": "20.00", "customer_id": "C-2"},
            "B": None,
        },
        "tiers": [
            {"tier": "A", "customers": 2, "net_revenue": "95.00", "share": 0.95},
            {"tier": "B", "customers": 0, "net_revenue": "0.00", "share": 0.0},
            {"tier": "C", "customers": 1, "net_revenue": "5.00", "share": 0.05},
            {"tier": "unrated", "customers": 1, "net_revenue": "-1.00", "share": None},
        ],
        "pareto": [
            {"customers_share": 0.0, "revenue_share": 0.0},
            {"customers_share": 1 / 3, "revenue_share": 0.75},
            {"customers_share": 2 / 3, "revenue_share": 0.95},
            {"customers_share": 1.0, "revenue_share": 1.0},
        ],
    }


async def test_nobody_ranked_is_four_empty_tiers(api: Api) -> None:
    """An empty house has tiers too: a screen made for them does not break on the first day."""
    for step in ("before anything is settled", "with nobody"):
        overview = await api.read("/tiers")
        assert overview["tiers"] == [
            {"tier": tier, "customers": 0, "net_revenue": "0.00", "share": None} for tier in ("A", "B", "C", "unrated")
        ], step
        assert overview["cutoffs"] == {"A": None, "B": None}
        assert (overview["total"], overview["pareto"]) == ("0.00", [])
        await api.settle()


@pytest.mark.parametrize(
    ("basis", "total", "last_in_a"),
    [("gross_profit", "9.00", {"net_revenue": "9.00", "customer_id": "C-1"}),
     ("orders", "3", {"net_revenue": "1", "customer_id": "C-1"})],
)  # fmt: skip
async def test_the_ranking_shows_what_the_policy_ranks_by(
    engine: AsyncEngine, basis: str, total: str, last_in_a: dict[str, str]
) -> None:
    """Money where it is money, a count where it is a count."""
    policy = DEFAULT_POLICY.replace('basis = "net_revenue"', f'basis = "{basis}"')
    async with running(engine, policy=policy) as api:
        await api.fed(
            order_of("C-1", "10.00", cost="1.00"),
            order_of("C-2", "500.00", cost="600.00"),
            order_of("C-2", "900.00"),
        )
        overview = await api.read("/tiers")
        assert (overview["basis"], overview["total"]) == (basis, total)
        assert overview["cutoffs"]["A"] == last_in_a


# --- ingestion ------------------------------------------------------------------------------------------------------


async def test_the_status_has_exactly_the_shape_of_the_contract(api: Api) -> None:
    """One message of each outcome, one not yet read."""
    await api.store.suppress(CustomerId("gone"))
    order = order_of("C-1", "1.00")
    await api.worker.read(map(as_message, [order, order, order | {"amount": "-1"}, a_complaint(customer_id="gone")]))
    await api.worker.read([as_message(order_of("C-2", "1.00"))], partitions=[1])
    await api.settle()
    await api.store.ledger.note_ends({Partition(TOPIC, 1): 5}, owner="worker-1")
    status = await api.read("/ingest/status")
    moments = [status.pop("last_applied_at"), *(status["workers"][0].pop(name) for name in ("started_at", "seen_at"))]
    for moment in moments:
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment)
    assert status == {
        "clock": "system",
        "as_of": "2026-11-22",
        "lag": 4,
        "partitions": [
            {"topic": TOPIC, "partition": 0, "next_offset": 4, "end_offset": 4, "lag": 0, "worker": "worker-1"}
            | {"halted": None},
            {"topic": TOPIC, "partition": 1, "next_offset": 1, "end_offset": 5, "lag": 4, "worker": "worker-1"}
            | {"halted": None},
        ],
        "workers": [{"worker": "worker-1", "waiting_for": []}],
        "events": {"applied": 2, "duplicate": 1, "rejected": 1, "suppressed": 1},
        "events_known_since": None,
        "customers": 2,
        "tiers": {"as_of": "2026-11-22", "current": True},
    }


async def test_the_status_says_what_each_worker_waits_for_and_forgets_who_reads_once_that_is_dead(api: Api) -> None:
    """A worker gives a sign of life every other second; after ten without one nobody reads its partitions."""
    await api.feed(order_of("C-1", "1.00"))
    wait = {"part": "relay", "for": "broker", "since": "2026-11-22T08:15:30.120Z", "detail": "KafkaTimeoutError: away"}
    await api.store.ledger.beat(owner="worker-1", waiting_for=[wait])
    status = await api.read("/ingest/status")
    assert [each["waiting_for"] for each in status["workers"]] == [[wait]]
    await api.store.rows("UPDATE workers SET seen_at = seen_at - interval '11 seconds' RETURNING owner")
    status = await api.read("/ingest/status")
    assert [each["worker"] for each in status["partitions"]] == [None]
    assert [each["worker"] for each in status["workers"]] == ["worker-1"]
    await api.store.ledger.beat(owner="worker-1", waiting_for=[])
    status = await api.read("/ingest/status")
    assert [each["worker"] for each in status["partitions"]] == ["worker-1"]
    await api.store.ledger.release(owner="worker-1")
    status = await api.read("/ingest/status")
    assert ([each["worker"] for each in status["partitions"]], status["workers"]) == ([None], [])


async def test_a_worker_long_dead_is_forgotten(api: Api) -> None:
    await api.store.ledger.beat(owner="dead", waiting_for=[])
    await api.store.rows("UPDATE workers SET seen_at = seen_at - interval '61 minutes' RETURNING owner")
    await api.store.ledger.beat(owner="alive", waiting_for=[])
    assert [each["worker"] for each in (await api.read("/ingest/status"))["workers"]] == ["alive"]


async def test_a_halted_partition_is_shown_with_its_reasons_and_its_remedy(api: Api) -> None:
    """In the status, and as a figure; what was rejected is in the quarantine, and a replay leaves the halt alone."""

    async def halted_partitions() -> str:
        return next(line for line in (await api.ask("/metrics")).text.splitlines() if line.startswith(name))

    name = "tierline_ingest_halted_partitions "
    early = as_message(order_of("C-1", "1.00") | {"currency": "USD"})
    await api.worker.read([as_message(order_of("C-0", "1.00")), *[Message(b"{")] * 498, early])
    assert await halted_partitions() == f"{name}0.0"
    assert (await api.worker.read([Message(b"")])).halted
    assert await halted_partitions() == f"{name}1.0"
    (partition,) = (await api.read("/ingest/status"))["partitions"]
    halted = partition["halted"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", halted.pop("at"))
    assert halted == {
        "offset": 500,
        "detail": "500 messages in a row were rejected; 500 are too many.",
        "reasons": {"invalid_json": 498, "empty": 1, "unknown_currency": 1},
        "remedy": f"Mend what sends or reads these messages, then run `ingest-worker resume {TOPIC}/0`, "
        "then replay what was rejected.",
    }
    await api.store.add_rates(rates_of([("USD", "2020-01-01", "7")]))
    (letter,) = (await api.read("/dead-letters?reason=unknown_currency"))["dead_letters"]
    replayed = await api.client.post(f"/dead-letters/{letter['id']}/replay")
    assert replayed.json()["outcome"] == "applied"
    (partition,) = (await api.read("/ingest/status"))["partitions"]
    assert partition["halted"]["offset"] == 500


async def test_the_status_before_the_first_message(api: Api) -> None:
    assert await api.read("/ingest/status") == {
        "clock": "system",
        "as_of": "2026-11-22",
        "lag": 0,
        "partitions": [],
        "workers": [],
        "events": {"applied": 0, "duplicate": 0, "rejected": 0, "suppressed": 0},
        "events_known_since": None,
        "customers": 0,
        "tiers": {"as_of": None, "current": True},
        "last_applied_at": None,
    }


async def test_tiers_are_current_once_the_cut_offs_cover_every_event(api: Api) -> None:
    async def is_current() -> bool:
        current: bool = (await api.read("/ingest/status"))["tiers"]["current"]
        return current

    await api.feed(order_of("C-1", "1.00"))
    assert not await is_current()
    await api.settle()
    assert await is_current()
    await api.feed(a_complaint(customer_id="C-1"))
    assert not await is_current()
    await api.settle()
    assert await is_current()
    await api.feed(Message(b"nonsense"))
    assert await is_current()
    api.clock.advance(days=1)
    assert not await is_current()


# --- dead letters ---------------------------------------------------------------------------------------------------

REJECTS: Final[dict[str, tuple[dict[str, Any] | Message, str | None, str]]] = {
    "empty": (Message(None), None, "send one JSON object"),
    "too_large": (Message(b"[" + b" " * 262_144), None, "send at most 262144"),
    "invalid_json": (Message(b'{"type": "order",}'), None, "send RFC 8259 JSON in UTF-8"),
    "schema": (order_of("C-7", "-5", event_id="bad"), "amount", "an amount is expected"),
    "unknown_type": (a_complaint(type="Order"), "type", "one of order, order_cancelled"),
    "conflicting_duplicate": (a_complaint(text="other"), "event_id", "send a correction as an event of its own id"),
    "too_old": (a_complaint(event_id="o", occurred_at="1989-12-31T23:59:59Z"), "occurred_at", "correct it"),
    "future": (
        a_complaint(event_id="f", occurred_at="2026-11-22T12:05:01Z"),
        "occurred_at",
        "check the sender's clock",
    ),
    "unknown_currency": (order_of("C-7", "5", currency="USD"), "currency", "load one"),
}


async def test_every_reason_is_shown_with_its_field_and_remedy(api: Api) -> None:
    """What a person needs to mend it: the reason, the field, the value as it came, and what to send instead."""
    await api.feed(a_complaint(), *(message for message, _, _ in REJECTS.values()))
    letters = (await api.read("/dead-letters"))["dead_letters"]
    assert [letter["reason"] for letter in letters] == list(REJECTS)[::-1]
    for letter in letters:
        _, field, remedy = REJECTS[letter["reason"]]
        assert letter["field"] == field
        assert remedy in letter["detail"]
        assert letter["detail"].endswith(".")
        if field:
            assert letter["detail"].startswith(field)
        assert (letter["topic"], letter["partition"]) == (TOPIC, 0)
    assert [letter["offset"] for letter in letters] == list(range(len(REJECTS), 0, -1))


async def test_a_dead_letter_has_its_bytes_and_headers_in_full(api: Api) -> None:
    """Listed without its bytes, shown with them."""
    value = as_message(order_of("C-7", "-5", event_id="bad")).value or b""
    await api.feed(Message(value, (("trace", b"\xff\x00"), ("trace", b"2"), ("źródło", b""))))
    (listed,) = (await api.read("/dead-letters"))["dead_letters"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", listed["recorded_at"])
    assert listed == {
        "id": listed["id"],
        "reason": "schema",
        "field": "amount",
        "detail": listed["detail"],
        "topic": TOPIC,
        "partition": 0,
        "offset": 0,
        "customer_id": "C-7",
        "event_id": "bad",
        "recorded_at": listed["recorded_at"],
        "replayed_as": None,
        "replayed_at": None,
    }
    assert listed["detail"].startswith("amount is '-5'; ")
    shown = await api.read(f"/dead-letters/{listed['id']}")
    assert shown == listed | {
        "value_base64": base64.b64encode(value).decode(),
        "value_text": value.decode(),
        "headers": [
            {"name": "trace", "value_base64": "/wA="},
            {"name": "trace", "value_base64": "Mg=="},
            {"name": "źródło", "value_base64": ""},
        ],
    }


@pytest.mark.parametrize(
    ("value", "in_base64", "as_text"),
    [
        (None, None, None),
        (b"", "", ""),
        (b"\xff{", "/3s=", None),
        (b'"\x00', "IgA=", '"\x00'),
        ("订".encode(), "6K6i", "订"),
    ],
)
async def test_bytes_that_are_no_text_are_shown_as_base64_alone(
    api: Api, value: bytes | None, in_base64: str | None, as_text: str | None
) -> None:
    await api.feed(Message(value))
    (listed,) = (await api.read("/dead-letters"))["dead_letters"]
    shown = await api.read(f"/dead-letters/{listed['id']}")
    assert (shown["value_base64"], shown["value_text"]) == (in_base64, as_text)
    assert (shown["customer_id"], shown["event_id"], shown["headers"]) == (None, None, [])


async def test_pages_follow_each_other_without_gap_or_repeat(api: Api) -> None:
    """Newest first, also while more are coming in."""
    await api.feed(*[Message(b"{")] * 5)
    first = await api.read("/dead-letters", params={"limit": 2})
    await api.feed(Message(b"{"))
    pages = [first]
    while (following := pages[-1]["next"]) is not None:
        pages.append(await api.read(following))
    assert [len(page["dead_letters"]) for page in pages] == [2, 2, 1]
    offsets = [letter["offset"] for page in pages for letter in page["dead_letters"]]
    assert offsets == [4, 3, 2, 1, 0]


async def test_a_page_that_is_just_full_is_the_last(api: Api) -> None:
    await api.feed(*[Message(b"{")] * 2)
    assert (await api.read("/dead-letters", params={"limit": 2}))["next"] is None
    assert await api.read("/dead-letters", params={"before": 1}) == {"dead_letters": [], "next": None}


async def test_a_page_has_a_hundred_unless_told(api: Api) -> None:
    await api.feed(*[Message(b"{")] * 101)
    page = await api.read("/dead-letters")
    assert len(page["dead_letters"]) == 100
    assert len((await api.read(page["next"]))["dead_letters"]) == 1


async def test_a_reason_filters_on_every_page(api: Api) -> None:
    await api.feed(*[Message(b"{"), Message(b"")] * 3)
    seen: list[str] = []
    path: str | None = "/dead-letters?reason=empty&limit=2"
    while path is not None:
        page = await api.read(path)
        seen += [letter["reason"] for letter in page["dead_letters"]]
        path = page["next"]
    assert seen == ["empty"] * 3
    assert (await api.read("/dead-letters?reason=future"))["dead_letters"] == []


# --- health, figures, documentation ---------------------------------------------------------------------------------


async def test_health_is_said_in_one_word(api: Api) -> None:
    assert await api.read("/health/live") == {"status": "live"}
    assert await api.read("/health/ready") == {"status": "ready"}


async def test_figures_for_prometheus_agree_with_the_status(api: Api) -> None:
    await api.fed(order_of("C-1", "1.00"), order_of("C-1", "1.00"), Message(b"{"))
    await api.store.ledger.note_ends({Partition(TOPIC, 0): 10}, owner="worker-1")
    await api.segment("C-1")
    await api.ask("/customers/C-404/segment", status=404)
    await api.ask("/there/is/nothing/C-404", status=404)
    answer = await api.ask("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "C-1" not in answer.text
    assert "C-404" not in answer.text
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["tierline_ingest_lag_messages",] == 7
    assert samples["tierline_customers",] == 1
    assert samples["tierline_tiers_current",] == 1
    for outcome, count in (await api.read("/ingest/status"))["events"].items():
        assert samples["tierline_ingest_messages", outcome] == count
    assert samples["tierline_http_requests_total", "/customers/{customer_id}/segment", "200"] == 1
    assert samples["tierline_http_requests_total", "/customers/{customer_id}/segment", "404"] == 1
    assert samples["tierline_http_requests_total", "404", "other"] == 1
    assert all(family.documentation for family in families.values())


class _Loaded(HTMLParser):
    """What a page fetches by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            self.addresses += [value for name, value in attrs if name in ("src", "href") and value]


_ELSEWHERE: Final = re.compile(
    rb"""url\(\s*["']?(?:https?:)?//|@import|(?:src|href)["']?\s*[:=]\s*["'`](?:https?:)?//[^"'`\s]+\.(?:svg|png|js|css|woff2?)["'`]"""
)
"""What a style sheet or a script would fetch from another host."""


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_the_documentation_needs_no_other_host(api: Api, page: str) -> None:
    """Neither the page nor anything that it loads fetches from the internet."""
    answer = await api.client.get(page)
    if page == "/redoc" and answer.status_code == 404:
        return
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert re.findall(r"https?://[^\s\"'<]+", answer.text) == []
    loaded = _Loaded()
    loaded.feed(answer.text)
    assert loaded.addresses
    assert "/openapi.json" in answer.text
    for address in loaded.addresses:
        assert address.startswith("/"), address
        asset = await api.ask(address)
        assert asset.content
        assert _ELSEWHERE.findall(asset.content) == [], address


async def test_the_document_is_served(api: Api) -> None:
    document = await api.read("/openapi.json")
    assert document["info"]["title"] == "Tierline"
    assert {
        "/customers/{customer_id}/segment",
        "/customers/{customer_id}/metrics",
        "/customers/segments",
        "/tiers",
        "/ingest/status",
        "/dead-letters",
        "/dead-letters/{letter_id}",
        "/health/live",
        "/health/ready",
        "/metrics",
    } <= document["paths"].keys()
