"""Overrides, history, answers of earlier days and explanations, as callers of the HTTP interface rely on them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any, Final

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import PROBLEM_TYPE, Api, running
from tests.support.builders import a_complaint, an_order
from tests.support.ledgers import DEFAULT_POLICY

from segmentation.storage.engine import create_engine
from segmentation.storage.foundation import activate_policy

ORDER: Final[dict[str, Any]] = {
    "tier": "A",
    "reason": "Framework contract signed",
    "author": "li.wei",
    "expires_on": "2026-12-01",
}


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    async with running(engine) as api:
        await api.fed(order_of("big", "80.00"), order_of("middle", "15.00"), order_of("small", "5.00"))
        yield api


def order_of(customer_id: str, amount: str, *, on: str = "2026-11-20", **fields: Any) -> dict[str, Any]:
    """An order with ids of its own."""
    name = f"{customer_id} {amount} {on}"
    named = {"event_id": name, "order_id": name, "customer_id": customer_id, "amount": amount}
    return an_order(**(named | fields), occurred_at=f"{on}T12:00:00Z")


async def override(api: Api, customer_id: str = "small", *, status: int = 200, **fields: Any) -> dict[str, Any]:
    answer = await api.client.put(f"/customers/{customer_id}/override", json=ORDER | fields)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def history(api: Api, customer_id: str = "small", **request: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.read(f"/customers/{customer_id}/history", **request))["history"]
    return found


# --- overrides ------------------------------------------------------------------------------------------------------


async def test_an_override_of_the_tier_is_seen_at_once_and_says_all_about_itself(api: Api) -> None:
    """Effective and computed tier apart; segment and service level follow the tier that counts."""
    answer = await override(api)
    assert answer == await api.segment("small")
    assert answer["value_tier"] == "A"
    assert answer["tier"] == {
        "effective": "A",
        "computed": "C",
        "since": "2026-11-22",
        "demotion_due": None,
        "override": {
            "tier": "A",
            "service_level": None,
            "reason": "Framework contract signed",
            "author": "li.wei",
            "expires_on": "2026-12-01",
            "set_at": "2026-11-22T12:00:00.000Z",
        },
    }
    assert (answer["segment"]["code"], answer["recommended_service_level"]["code"]) == ("strategic", "vip")
    tiers = {each["tier"]: each["customers"] for each in (await api.read("/tiers"))["tiers"]}
    assert tiers == {"A": 1, "B": 1, "C": 1, "unrated": 0}


async def test_an_override_of_the_service_level_wins_over_the_policys_and_says_so(api: Api) -> None:
    answer = await override(api, tier=None, service_level="vip")
    assert (answer["value_tier"], answer["recommended_service_level"]["code"]) == ("C", "vip")
    assert answer["recommended_service_level"]["reasons"] == ["override vip (as_of < 2026-12-01)"]
    assert (answer["tier"]["override"]["tier"], answer["tier"]["override"]["service_level"]) == (None, "vip")
    chinese = await api.segment("small", headers={"Accept-Language": "zh"})
    assert chinese["recommended_service_level"]["reasons"] == ["人工指定 vip (as_of < 2026-12-01)"]


async def test_an_override_ends_by_itself_when_its_day_comes(api: Api) -> None:
    """For whoever asks, on that day, and in store once the sweep has come by."""
    await override(api)
    api.clock.advance(days=8)
    assert (await api.segment("small"))["value_tier"] == "A"
    api.clock.advance(days=1)
    assert (await api.segment("small"))["tier"]["override"] is None
    await api.settle()
    assert (await api.segment("small"))["tier"]["effective"] == "C"
    newest = (await history(api))[0]
    assert (newest["kind"], newest["as_of"], newest["author"]) == ("override_expired", "2026-12-01", None)
    assert newest["override"]["author"] == "li.wei"
    assert (newest["before"]["value_tier"], newest["after"]["value_tier"]) == ("A", "C")


async def test_an_override_is_replaced_and_ended(api: Api) -> None:
    """Ending says who and why, where that is told; where nothing counts, it does nothing and is no error."""
    await override(api)
    assert (await override(api, tier="B", author="chen"))["tier"]["override"]["author"] == "chen"
    path = "/customers/small/override"
    ended = await api.client.delete(path, params={"author": "wang", "reason": "contract cancelled"})
    assert ended.status_code == 200
    assert (ended.json()["value_tier"], ended.json()["tier"]["override"]) == ("C", None)
    entries = await history(api)
    again = await api.client.delete(path)
    assert (again.status_code, again.json()["value_tier"]) == (200, "C")
    assert await history(api) == entries
    told = [(each["kind"], each["author"], each["reason"]) for each in entries[:3]]
    assert told == [
        ("override_ended", "wang", "contract cancelled"),
        ("override_set", "chen", "Framework contract signed"),
        ("override_set", "li.wei", "Framework contract signed"),
    ]
    assert [each["override"]["author"] for each in entries[:3]] == ["chen", "chen", "li.wei"]


async def test_an_override_is_announced_where_it_changes_what_others_see(api: Api) -> None:
    before = len(await api.store.changes())
    await override(api)
    (change,) = (await api.store.changes())[before:]
    assert (change["customer_id"], change["before"]["value_tier"], change["after"]["value_tier"]) == ("small", "C", "A")
    await override(api, author="chen")
    assert len(await api.store.changes()) == before + 1
    await api.client.delete("/customers/small/override")
    (_, change) = (await api.store.changes())[before:]
    assert (change["before"]["value_tier"], change["after"]["value_tier"]) == ("A", "C")


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("tier", {"tier": "D"}),
        ("tier", {"tier": "a"}),
        ("tier", {"tier": None}),
        ("tier", {"tier": 1}),
        ("service_level", {"service_level": "gold"}),
        ("service_level", {"service_level": ""}),
        ("expires_on", {"expires_on": "2026-11-22"}),
        ("expires_on", {"expires_on": "2026-11-21"}),
        ("expires_on", {"expires_on": "soon"}),
        ("expires_on", {"expires_on": 1_800_000_000}),
        ("expires_on", {"expires_on": None}),
        ("reason", {"reason": None}),
        ("reason", {"reason": "  "}),
        ("reason", {"reason": "\u0000"}),
        ("reason", {"reason": "x" * 501}),
        ("author", {"author": ""}),
        ("author", {"author": "x" * 129}),
        ("until", {"until": "2027-01-01"}),
    ],
)
async def test_what_cannot_be_set_names_its_field_and_sets_nothing(
    api: Api, field: str, fields: dict[str, Any]
) -> None:
    before = await api.segment("small")
    answer = await api.client.put("/customers/small/override", json=ORDER | fields)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == PROBLEM_TYPE
    problem = answer.json()
    assert problem["detail"].startswith(f"body.{field}: ")
    assert [each["field"] for each in problem["errors"]] == [f"body.{field}"]
    assert await api.segment("small") == before
    row = await api.client.put("/customers/overrides", json={"overrides": [ORDER | fields | {"customer_id": "small"}]})
    (outcome,) = row.json()["outcomes"]
    assert (outcome["outcome"], outcome["field"], bool(outcome["detail"])) == ("invalid", field, True)
    assert await api.segment("small") == before


@pytest.mark.parametrize("name", ["reason", "author", "expires_on"])
async def test_reason_author_and_expiry_are_required(api: Api, name: str) -> None:
    order = {key: value for key, value in ORDER.items() if key != name}
    answer = await api.client.put("/customers/small/override", json=order)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(f"body.{name}: ")


@pytest.mark.parametrize("customer_id", ["nobody", "no id", "x" * 65])
async def test_an_unknown_customer_is_404_everywhere(api: Api, customer_id: str) -> None:
    await override(api, customer_id, status=404)
    assert (await api.client.delete(f"/customers/{customer_id}/override")).status_code == 404
    for part in ("history", "explanation", "segment?as_of=2026-11-20"):
        await api.ask(f"/customers/{customer_id}/{part}", status=404)


async def test_many_are_set_at_once_each_with_an_outcome_of_its_own(api: Api) -> None:
    """What is wrong or unknown stops nothing else, and is told by its row."""
    rows = [
        ORDER | {"customer_id": "small"},
        ORDER | {"customer_id": "nobody"},
        ORDER | {"customer_id": "no id"},
        ORDER | {"customer_id": "middle", "expires_on": "2026-11-22"},
        ORDER | {"customer_id": "small", "tier": "B"},
        {"customer_id": "big"},
        None,
        ORDER | {"customer_id": "big", "tier": "C", "service_level": "stable"},
    ]
    answer = await api.client.put("/customers/overrides", json={"overrides": rows})
    assert answer.status_code == 200
    told = answer.json()
    assert told["set"] == 2
    assert [each["row"] for each in told["outcomes"]] == list(range(8))
    assert [(each["outcome"], each["field"]) for each in told["outcomes"]] == [
        ("set", None),
        ("unknown_customer", None),
        ("unknown_customer", None),
        ("invalid", "expires_on"),
        ("invalid", "customer_id"),
        ("invalid", "reason"),
        ("invalid", None),
        ("set", None),
    ]
    stands = (await api.segments("big", "middle", "small"))["customers"]
    levels = [(each["value_tier"], each["recommended_service_level"]["code"]) for each in stands]
    assert levels == [("C", "stable"), ("B", "stable"), ("A", "vip")]


async def test_no_more_than_a_thousand_at_once(api: Api) -> None:
    row = {"customer_id": "nobody"}
    for count, status in ((1_000, 200), (1_001, 422)):
        answer = await api.client.put("/customers/overrides", json={"overrides": [row] * count})
        assert answer.status_code == status


async def test_by_the_event_clock_an_override_expires_with_the_events(engine: AsyncEngine) -> None:
    """The machine's clock is years ahead and has no say; the jump over the expiry ends it on the day it is found."""
    async with running(engine, clock="event") as api:
        await api.fed(order_of("small", "5.00", on="2024-03-01"), order_of("big", "95.00", on="2024-03-01"))
        await override(api, expires_on="2024-03-01", status=422)
        assert (await override(api, expires_on="2024-03-10"))["value_tier"] == "A"
        await api.fed(order_of("big", "1.00", on="2024-03-09"))
        assert (await api.segment("small"))["value_tier"] == "A"
        await api.fed(order_of("big", "2.00", on="2024-03-20"))
        assert (await api.segment("small"))["tier"]["override"] is None
        newest = (await history(api))[0]
        assert (newest["kind"], newest["as_of"]) == ("override_expired", "2024-03-20")


async def test_a_level_that_the_policy_no_longer_has_leaves_the_decision_to_the_policy(
    engine: AsyncEngine, api: Api
) -> None:
    await override(api, tier=None, service_level="welcome")
    await activate_policy(engine, DEFAULT_POLICY.replace('"welcome"', '"hello"'))
    answer = await api.segment("small")
    assert answer["recommended_service_level"]["code"] == "standard"
    assert answer["tier"]["override"]["service_level"] == "welcome"
    await api.settle()
    assert await api.segment("small") == answer
    names = [each["after"]["service_level"]["name"] for each in await history(api)]
    assert names[:2] == ["Standard and economical", "Welcome"]


# --- demotion -------------------------------------------------------------------------------------------------------


async def test_a_demotion_is_announced_by_its_day_and_cancelled_by_a_recovery(api: Api) -> None:
    """It falls on the day that was told; whoever recovers before that never fell."""
    api.clock.advance(days=1)
    await api.fed(order_of("giant", "100000.00", on="2026-11-22"))
    big = await api.segment("big")
    assert (big["tier"]["effective"], big["tier"]["computed"]) == ("A", "C")
    assert big["tier"]["demotion_due"] == "2026-12-07"
    explained = await api.read("/customers/big/explanation")
    assert (explained["tier"]["decided_by"], explained["tier"]["demotion_due"]) == ("grace", "2026-12-07")
    await api.fed(order_of("big", "90000.00", on="2026-11-22"))
    recovered = (await api.segment("big"))["tier"]
    assert (recovered["effective"], recovered["demotion_due"], recovered["since"]) == ("A", None, big["tier"]["since"])
    middle = (await api.segment("middle"))["tier"]
    assert (middle["effective"], middle["demotion_due"]) == ("B", "2026-12-07")
    api.clock.advance(days=13)
    assert (await api.segment("middle"))["tier"]["effective"] == "B"
    api.clock.advance(days=1)
    assert (await api.segment("middle"))["tier"]["effective"] == "C"
    assert (await api.segment("big"))["tier"]["effective"] == "A"


# --- history --------------------------------------------------------------------------------------------------------


async def test_the_history_tells_each_change_with_both_sides_newest_first(api: Api) -> None:
    entries = await history(api, "big")
    assert [each["kind"] for each in entries] == ["change", "change"]
    assert entries[0] == {
        "as_of": "2026-11-22",
        "recorded_at": entries[0]["recorded_at"],
        "kind": "change",
        "before": {
            "value_tier": "unrated",
            "computed_tier": "unrated",
            "lifecycle": {"code": "new", "name": "new"},
            "segment": {"code": "newcomer", "name": "Newcomer"},
            "service_level": {"code": "welcome", "name": "Welcome"},
            "churn_warning": False,
        },
        "after": {
            "value_tier": "A",
            "computed_tier": "A",
            "lifecycle": {"code": "new", "name": "new"},
            "segment": {"code": "strategic", "name": "Strategic partner"},
            "service_level": {"code": "vip", "name": "VIP"},
            "churn_warning": False,
        },
        "reasons": ["tier A", "tier A"],
        "override": None,
        "author": None,
        "reason": None,
        "versions": {"policy": 1, "model": None},
    }
    assert (entries[1]["before"], entries[1]["after"]) == (None, entries[0]["before"])
    chinese = (await history(api, "big", headers={"Accept-Language": "zh"}))[0]
    assert chinese["after"]["segment"] == {"code": "strategic", "name": "战略伙伴"}
    assert (chinese["after"]["lifecycle"]["name"], chinese["reasons"]) == ("新客户", ["等级 A", "等级 A"])


async def test_pages_of_the_history_join_without_a_gap_and_never_shift(api: Api) -> None:
    """What comes in while somebody turns pages is on top, and moves nothing below."""
    for day in range(1, 8):
        await override(api, expires_on=f"2027-01-0{day}")
    whole = await history(api)
    assert len(whole) == 9
    path, pages = "/customers/small/history?limit=4", []
    while path:
        page = await api.read(path)
        pages.append(page["history"])
        path = page["next"]
        await override(api, reason=f"page {len(pages)}")
    assert [len(page) for page in pages] == [4, 4, 1]
    assert [entry for page in pages for entry in page] == whole


@pytest.mark.parametrize("cursor", ["1", "AAAAAAAAAAA", "_________", "AAAAAAAAAB!", "//////////8", "__________8"])
async def test_a_cursor_of_somebody_else_is_refused(api: Api, cursor: str) -> None:
    answer = await api.ask("/customers/small/history", status=422, params={"cursor": cursor})
    assert "cursor" in answer.json()["detail"]


async def test_a_figure_in_a_reason_is_no_history(api: Api) -> None:
    """The answer of a day has it all the same."""
    await api.fed(
        *(
            a_complaint(event_id=f"c{number}", customer_id="small", occurred_at="2026-11-21T00:00:00Z")
            for number in range(3)
        )
    )
    entries = await history(api)
    assert entries[0]["after"]["segment"]["code"] == "complaint_prone"
    await api.fed(a_complaint(event_id="c4", customer_id="small", occurred_at="2026-11-21T00:00:00Z"))
    assert await history(api) == entries
    assert await api.store.rows("SELECT 1 FROM history WHERE customer_id = 'small' AND kind = 'refresh'")


# --- the answers of earlier days ------------------------------------------------------------------------------------


async def test_an_earlier_days_answer_is_what_stood_at_its_end(api: Api) -> None:
    """What arrives later alters nothing, the day itself included."""
    first = await api.segment("small")
    api.clock.advance(days=1)
    await api.fed(order_of("small", "900.00"))
    second = await api.segment("small")
    api.clock.advance(days=3)
    await override(api, tier="B")
    await api.fed(order_of("giant", "999999.00", on="2026-11-01"))
    for day, then in (("2026-11-22", first), ("2026-11-23", second), ("2026-11-25", second)):
        recorded = await api.segment("small", params={"as_of": day})
        assert recorded == then | {"as_of": day, "updated_at": recorded["updated_at"]}
    today = await api.segment("small", params={"as_of": "2026-11-26"})
    assert today == await api.segment("small")
    assert today["tier"]["override"]["tier"] == "B"


async def test_an_earlier_days_answer_follows_the_language_and_has_a_tag(api: Api) -> None:
    api.clock.advance(days=1)
    asked: dict[str, Any] = {"params": {"as_of": "2026-11-22"}, "headers": {"Accept-Language": "zh"}}
    answer = await api.ask("/customers/big/segment", **asked)
    assert answer.json()["segment"]["name"] == "战略伙伴"
    tagged = {"Accept-Language": "zh", "If-None-Match": answer.headers["etag"]}
    await api.ask("/customers/big/segment", status=304, params={"as_of": "2026-11-22"}, headers=tagged)


async def test_before_the_first_record_is_404_and_after_today_422(api: Api) -> None:
    await api.ask("/customers/small/segment?as_of=2026-11-21", status=404)
    await api.ask("/customers/small/segment?as_of=2026-11-23", status=422)


async def test_what_time_alone_changed_is_recorded_for_the_day_it_was_assessed_for(api: Api) -> None:
    """The demotion of the 7th was found by a sweep on the 9th: the 8th ended with the answer that stood."""
    api.clock.advance(days=1)
    await api.fed(order_of("giant", "100000.00", on="2026-11-22"))
    api.clock.advance(days=16)
    await api.settle()
    for day, tier in (("2026-11-23", "A"), ("2026-12-08", "A"), ("2026-12-09", "C")):
        assert (await api.segment("big", params={"as_of": day}))["value_tier"] == tier, day


async def test_by_the_event_clock_days_jumped_over_end_with_what_stood(engine: AsyncEngine) -> None:
    async with running(engine, clock="event") as api:
        await api.fed(order_of("a", "80.00", on="2024-03-01"))
        await api.fed(order_of("b", "1.00", on="2025-03-20"))
        assert (await api.segment("a"))["value_tier"] == "A"
        await api.fed(order_of("b", "2.00", on="2025-04-20"))
        stood = {day: (await api.segment("a", params={"as_of": day}))["value_tier"] for day in (
            "2024-03-01", "2024-07-01", "2025-03-20", "2025-04-19", "2025-04-20"
        )}  # fmt: skip
        assert list(stood.values()) == ["A", "A", "A", "A", "unrated"]
        await api.ask("/customers/b/segment?as_of=2025-03-19", status=404)


# --- explanations ---------------------------------------------------------------------------------------------------


async def test_an_explanation_says_what_was_held_against_what(api: Api) -> None:
    explained = await api.read("/customers/middle/explanation")
    tier = explained["tier"]
    assert {name: tier[name] for name in tier if name != "words"} == {
        "effective": "B",
        "computed": "B",
        "decided_by": "ranking",
        "since": "2026-11-22",
        "basis": "net_revenue",
        "unit": "CNY",
        "value": "15.00",
        "cutoffs": {
            "A": {"value": "80.00", "customer_id": "big"},
            "B": {"value": "15.00", "customer_id": "middle"},
        },
        "next": {"tier": "A", "amount": "65.01"},
        "previous": {"tier": "C", "amount": "0.01"},
        "grace_days": 14,
        "demotion_due": None,
    }
    assert "65.01 CNY more would make it tier A." in tier["words"]
    assert explained["lifecycle"] == {
        "stage": {"code": "new", "name": "new"},
        "first_order_day": "2026-11-20",
        "last_order_day": "2026-11-20",
        "recency_days": 2,
        "rhythm_days": 30,
        "rhythm_is_own": False,
        "boundaries": [
            {"stage": {"code": "active", "name": "active"}, "from_day": "2027-01-19", "days": 60},
            {"stage": {"code": "at_risk", "name": "at risk"}, "from_day": "2027-02-19", "days": 90},
            {"stage": {"code": "dormant", "name": "dormant"}, "from_day": "2027-05-20", "days": 180},
            {"stage": {"code": "lost", "name": "lost"}, "from_day": "2027-11-21", "days": 365},
        ],
        "came_back_on": None,
        "moves_on": "2027-01-19",
        "moves_to": {"code": "active", "name": "active"},
        "words": [
            "Its last order is of 2026-11-20, 2 days ago.",
            "It has no rhythm of its own yet; 30 days are assumed.",
            "So it is new.",
            "Without another order it becomes active on 2027-01-19.",
        ],
    }
    assert explained["value_level"] == {
        "level": "medium",
        "contribution": "medium",
        "potential": "medium",
        "size": "small",
        "frequency": "low",
        "words": [
            "Contribution is medium and potential medium: the value level is medium.",
            "Its size is small by revenue over 365 days, its frequency low by orders over 90 days.",
        ],
    }
    grade = explained["grade"]
    assert (grade["code"], grade["name"], grade["row"], grade["decided_by"]) == ("general", "general", 4, "policy")
    assert "Row 3 (key) asks for frequency high; it is low." in grade["words"]
    segment = explained["segment"]
    assert (segment["code"], segment["row"], segment["decided_by"]) == ("core", 6, "policy")
    assert [(each["row"], each["holds"]) for each in segment["tried"]] == [
        (1, False), (2, False), (3, False), (4, False), (5, False), (6, True)
    ]  # fmt: skip
    assert segment["tried"][2]["conditions"] == [
        {"fact": "complaints_90d", "value": "0", "condition": ">= 3", "holds": False},
        {"fact": "complaint_rate_90d", "value": "0", "condition": ">= 0.25", "holds": False},
    ]
    assert segment["words"][0] == "Row 6 of the segments decides: tier B."
    assert "Row 3 (Complaint-prone) asks for complaints_90d >= 3; it is 0." in segment["words"]
    assert (explained["service_level"]["code"], explained["service_level"]["row"]) == ("stable", 2)
    assert explained["versions"] == {"policy": 1, "model": None}


async def test_an_explanation_speaks_chinese(api: Api) -> None:
    await override(api, service_level="vip")
    explained = await api.read("/customers/small/explanation", headers={"Accept-Language": "zh"})
    words = [word for part in ("tier", "lifecycle", "segment", "service_level") for word in explained[part]["words"]]
    assert "再增加 10.01 CNY 即为B 级。" in words
    assert "li.wei 人工指定为A 级, 2026-12-01 起失效: Framework contract signed" in words
    assert "若不再下单, 2027-01-19 起变为活跃。" in words
    assert explained["segment"]["name"] == "战略伙伴"
    assert explained["grade"]["name"] == "重点客户"
    assert "贡献为高, 潜力为中: 价值级别为高。" in explained["value_level"]["words"]
    assert explained["service_level"]["decided_by"] == "override"


@pytest.mark.parametrize("customer_id", ["big", "middle", "small", "none"])
async def test_an_explanation_decides_what_the_answer_says(api: Api, customer_id: str) -> None:
    await api.fed(a_complaint(customer_id="none"))
    for _ in range(2):
        explained, answer = await api.read(f"/customers/{customer_id}/explanation"), await api.segment(customer_id)
        assert explained["tier"]["effective"] == answer["value_tier"]
        assert explained["tier"]["computed"] == answer["tier"]["computed"]
        assert explained["tier"]["since"] == answer["tier"]["since"]
        assert explained["lifecycle"]["stage"]["code"] == answer["lifecycle"]
        assert explained["segment"]["code"] == answer["segment"]["code"]
        assert explained["segment"]["name"] == answer["segment"]["name"]
        level = answer["recommended_service_level"]
        assert {name: explained["service_level"][name] for name in ("code", "name", "reasons")} == {
            name: level[name] for name in ("code", "name", "reasons")
        }
        assert explained["override"] == answer["tier"]["override"]
        await override(api, customer_id, tier="C", service_level="welcome")


async def test_the_gap_is_what_it_takes_to_move(api: Api) -> None:
    """One unit less than the gap does not do; ties go by the byte order of the ids."""
    gap = (await api.read("/customers/small/explanation"))["tier"]["next"]
    assert gap == {"tier": "B", "amount": "10.01"}
    assert (await api.read("/customers/big/explanation"))["tier"]["next"] is None
    # Somebody whose id comes first needs no more than the cut-off itself, which is small's now.
    await api.fed(order_of("alpha", "0.01"))
    assert (await api.read("/customers/alpha/explanation"))["tier"]["next"] == {"tier": "B", "amount": "4.99"}


async def test_gaps_on_another_basis_are_told_in_orders(engine: AsyncEngine) -> None:
    policy = DEFAULT_POLICY.replace('basis = "net_revenue"', 'basis = "orders"')
    async with running(engine, policy=policy) as api:
        await api.fed(*(order_of("often", f"{number}.00") for number in range(8)), order_of("rare", "500.00"))
        tier = (await api.read("/customers/rare/explanation"))["tier"]
        assert (tier["unit"], tier["value"], tier["next"]) == ("orders", "1", {"tier": "A", "amount": "8"})
        assert "8 orders more would make it tier A." in tier["words"]


async def test_before_anyone_is_ranked_the_first_revenue_makes_an_a(engine: AsyncEngine) -> None:
    async with running(engine) as api:
        await api.fed(a_complaint(customer_id="C-1"))
        explained = await api.read("/customers/C-1/explanation")
        assert explained["tier"]["next"] == {"tier": "A", "amount": "0.01"}
        assert explained["tier"]["previous"] is None
        assert explained["lifecycle"]["words"] == ["It has not ordered yet; its first order makes it new."]


async def test_an_expiry_in_the_calendar_of_the_business(engine: AsyncEngine) -> None:
    """At 17:00 in UTC it is tomorrow in Shanghai, where the house keeps its days."""
    async with running(engine, timezone="Asia/Shanghai") as api:
        await api.fed(order_of("small", "5.00"), order_of("big", "95.00"))
        await override(api, expires_on="2026-11-23")
        api.clock.advance(hours=5)
        assert (await api.segment("small"))["tier"]["override"] is None
        tomorrow = date(2026, 11, 22) + timedelta(days=1)
        assert (await api.segment("small"))["as_of"] == tomorrow.isoformat()
