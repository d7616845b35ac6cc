"""Models over HTTP: what answers, history, changes and explanations say while one is in force, and after going back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import Api, client_of, running
from tests.support.builders import a_complaint, a_customer, an_order
from tests.support.ledgers import NO_GRACE, PostgresStore, Worker, settle
from tests.support.models import AUTHOR, put_in_force, roll_back
from tests.support.oracle import Setting

from segmentation.storage.engine import create_engine, transaction

WARNS_EARLY = NO_GRACE.replace('warn_from = "0.7"', 'warn_from = "0.5"')
SILENT_DAYS = 30
"""After so many, the odds of churn are 31 to 30.7: the model warns from 0.5 on."""


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    async with running(engine, policy=WARNS_EARLY) as api:
        await api.fed(
            an_order(event_id="1", order_id="1", customer_id="a", occurred_at="2026-11-22T08:00:00Z"),
            an_order(event_id="2", order_id="2", customer_id="b", occurred_at="2026-11-20T08:00:00Z"),
            a_complaint(event_id="3", customer_id="b", occurred_at="2026-11-21T08:00:00Z"),
            a_customer(event_id="4", customer_id="nobody-yet", occurred_at="2026-11-21T08:00:00Z"),
        )
        await settle(api.store, now=api.clock.now)
        yield api


async def later(api: Api, days: int) -> None:
    """Days pass, and the sweep has come round."""
    api.clock.now += timedelta(days=days)
    await settle(api.store, now=api.clock.now)


async def activated(api: Api, engine: AsyncEngine, **chosen: Any) -> int:
    version = await put_in_force(engine, api.store.house, **chosen)
    await settle(api.store, now=api.clock.now)
    return version


async def test_the_answer_is_the_models_where_it_knows_the_customer(api: Api, engine: AsyncEngine) -> None:
    before = {each: await api.segment(each) for each in ("a", "b", "nobody-yet")}
    assert before["a"]["segment"]["source"] == "rules"
    assert before["a"]["risk"] == {"churn_probability": None, "warning": False}
    assert before["a"]["versions"] == {"policy": 1, "model": None}

    version = await activated(api, engine)
    content, troubled, nobody = [await api.segment(each) for each in ("a", "b", "nobody-yet")]
    assert content["segment"] == {
        "code": "content",
        "name": "Content",
        "since": "2026-11-22",
        "source": f"model:{version}",
        "confidence": 1.0,
    }
    assert content["risk"] == {"churn_probability": 0.03, "warning": False}
    assert content["versions"] == {"policy": 1, "model": version}
    assert troubled["segment"]["code"] == "troubled"
    assert (await api.segment("b", headers={"Accept-Language": "zh"}))["segment"]["name"] == "不满"
    # What the policy grants goes on by its own segment table.
    for each, after in (("a", content), ("b", troubled)):
        assert after["recommended_service_level"] == before[each]["recommended_service_level"]
    assert nobody["segment"] == before["nobody-yet"]["segment"]
    assert nobody["risk"]["churn_probability"] is None
    assert nobody["versions"]["model"] == version


async def test_an_answer_before_the_sweep_has_come_is_the_same(api: Api, engine: AsyncEngine) -> None:
    """Of another model, and of another day."""
    await put_in_force(engine, api.store.house)
    early = await api.segment("a")
    await settle(api.store, now=api.clock.now)
    swept = await api.segment("a")
    assert early | {"updated_at": ""} == swept | {"updated_at": ""}
    api.clock.now += timedelta(days=5)
    early = await api.segment("a")
    assert early["risk"]["churn_probability"] == 0.16
    await settle(api.store, now=api.clock.now)
    # The cut-offs were of the day before, and said to be.
    assert early | {"updated_at": "", "stale": False} == await api.segment("a") | {"updated_at": ""}


async def test_a_churn_warning_begins_and_ends_as_a_change(api: Api, engine: AsyncEngine) -> None:
    await activated(api, engine)
    told = len(await api.store.changes())
    await later(api, SILENT_DAYS)
    assert (await api.segment("a"))["risk"] == {"churn_probability": 0.5, "warning": True}
    begun = [each for each in (await api.store.changes())[told:] if each["customer_id"] == "a"]
    assert [(each["before"]["churn_warning"], each["after"]["churn_warning"]) for each in begun] == [(False, True)]
    assert begun[0]["reasons"][-1] == "churn warning churn probability 0.50"
    assert begun[0]["versions"] == {"policy": 1, "model": 1}
    newest = (await api.read("/customers/a/history"))["history"][0]
    assert (newest["before"]["churn_warning"], newest["after"]["churn_warning"]) == (False, True)
    assert newest["after"]["segment"] == {"code": "content", "name": "Content"}
    chinese = (await api.read("/customers/a/history", headers={"Accept-Language": "zh"}))["history"][0]
    assert chinese["reasons"][-1] == "流失预警 流失概率 0.50"

    await api.fed(an_order(event_id="9", order_id="9", customer_id="a", occurred_at="2026-12-22T08:00:00Z"))
    await settle(api.store, now=api.clock.now)
    assert (await api.segment("a"))["risk"] == {"churn_probability": 0.03, "warning": False}
    assert (await api.store.changes())[-1]["after"]["churn_warning"] is False


async def test_without_a_model_a_warning_is_the_lifecycles(api: Api) -> None:
    """The default rhythm is 30 days, and at risk is who has been silent for three."""
    await later(api, 91)
    answer = await api.segment("a")
    assert (answer["lifecycle"], answer["risk"]) == ("at_risk", {"churn_probability": None, "warning": True})
    change = next(each for each in reversed(await api.store.changes()) if each["customer_id"] == "a")
    assert change["after"]["churn_warning"] is True
    assert change["reasons"][-1] == "churn warning lifecycle at_risk"
    explained = (await api.read("/customers/a/explanation"))["risk"]
    assert (explained["decided_by"], explained["warning"], explained["drivers"]) == ("lifecycle", True, [])
    assert explained["words"] == [
        "No model knows the customer. By its rhythm it is at risk, so there is a churn warning."
    ]


async def test_another_model_moves_everyone_and_going_back_moves_them_back(api: Api, engine: AsyncEngine) -> None:
    await activated(api, engine)
    since = (await api.segment("a"))["segment"]["since"]
    await later(api, 1)
    second = await activated(api, engine, odds=1.0)
    again = await api.segment("a")
    assert (again["risk"]["churn_probability"], again["versions"]["model"]) == (0.67, second)
    assert again["segment"]["since"] == since, "the same segment by another model goes on"
    answer = again
    for version, probability in ((1, 0.06), (None, None)):
        await roll_back(engine, api.store.house)
        await settle(api.store, now=api.clock.now)
        answer = await api.segment("a")
        assert (answer["versions"]["model"], answer["risk"]["churn_probability"]) == (version, probability)
    assert answer["segment"]["source"] == "rules"
    assert answer["segment"]["since"] == "2026-11-23"


async def test_the_past_is_told_by_the_model_of_its_day(api: Api, engine: AsyncEngine) -> None:
    """Every day's answer is the one that stood at its end, the probability too, though it makes no history."""
    await activated(api, engine)
    told: dict[str, dict[str, Any]] = {}
    for _ in range(6):
        answer = await api.segment("a")
        told[answer["as_of"]] = answer
        await later(api, 1)
    await activated(api, engine, names=("calm", "cross"))
    assert len({each["risk"]["churn_probability"] for each in told.values()}) > 3
    for day, answer in told.items():
        past = await api.segment("a", params={"as_of": day})
        assert past | {"updated_at": ""} == answer | {"updated_at": ""}
    listed = (await api.read("/customers/a/history"))["history"]
    assert [each["after"]["segment"]["code"] for each in listed[:2]] == ["calm", "content"]
    assert len(listed) == 4  # heard of, ranked, by the one model, by the other


async def test_an_explanation_has_the_reasons_of_the_probability(api: Api, engine: AsyncEngine) -> None:
    await activated(api, engine)
    await later(api, SILENT_DAYS)
    explained = await api.read("/customers/b/explanation")
    risk, behaviour = explained["risk"], explained["behaviour"]
    assert (risk["churn_probability"], risk["warn_from"], risk["decided_by"]) == (0.52, 0.5, "model")
    assert (risk["horizon_days"], risk["expected_value"]) == (90, "25.66")
    assert [each["code"] for each in risk["drivers"]] == ["silence"]
    assert risk["drivers"][0]["effect"] > 0
    assert risk["drivers"][0]["words"] in risk["words"][-1]
    assert risk["words"][2] == ("There is a churn warning: the probability is 50 % or more, and it is not too late.")
    assert (behaviour["code"], behaviour["source"], behaviour["confidence"]) == ("troubled", "model:1", 1.0)
    # The policy's own segment, by which it goes on, stands beside it.
    assert explained["segment"]["code"] in {"strategic", "newcomer"}
    assert explained["segment"]["decided_by"] == "policy"
    chinese = await api.read("/customers/b/explanation", headers={"Accept-Language": "zh"})
    assert "流失" in chinese["risk"]["words"][-1]
    assert chinese["behaviour"]["name"] == "不满"


async def test_a_policy_decides_by_what_the_model_says(engine: AsyncEngine) -> None:
    policy = NO_GRACE.replace(
        'code = "volume_agreement"\nname = { en = "Volume agreement", zh = "量价协议" }\ndescription',
        'code = "cheer_up"\nname = { en = "Cheer up", zh = "安抚" }\n'
        'description = { en = "Call.", zh = "联系。" }\n'
        'when = { behaviour = ["troubled"], churn_probability = ">= 0.5", churn_warning = ["no"] }\n\n'
        '[[additions]]\ncode = "volume_agreement"\n'
        'name = { en = "Volume agreement", zh = "量价协议" }\ndescription',
    )
    assert policy != NO_GRACE
    async with running(engine, policy=policy) as api:
        await api.fed(
            an_order(customer_id="b", occurred_at="2026-10-20T08:00:00Z"),
            a_complaint(customer_id="b", occurred_at="2026-11-21T08:00:00Z"),
        )
        await settle(api.store, now=api.clock.now)

        async def added() -> dict[str, list[str]]:
            level = (await api.segment("b"))["recommended_service_level"]
            return {each["code"]: each["reasons"] for each in level["additions"]}

        assert "cheer_up" not in await added()
        await activated(api, engine)
        assert (await added())["cheer_up"] == [
            "behaviour troubled",
            "churn probability 0.53 (>= 0.5)",
            "churn warning no",
        ]


async def test_models_are_listed_with_their_cards(api: Api, engine: AsyncEngine) -> None:
    assert await api.read("/models") == {"active": None, "models": [], "activations": []}
    await activated(api, engine)
    listed = await api.read("/models")
    assert (listed["active"], [each["version"] for each in listed["models"]]) == (1, [1])
    assert [(each["kind"], each["version"], each["author"]) for each in listed["activations"]] == [
        ("activate", 1, AUTHOR)
    ]
    one = await api.read("/models/1")
    assert one == listed["models"][0] | {"card": {"horizon_days": 90}}
    assert (await api.client.get("/models/2")).status_code == 404
    assert "tierline_model_version 1.0" in (await api.client.get("/metrics")).text


async def test_a_model_that_cannot_be_used_any_more_leaves_the_rules(api: Api, engine: AsyncEngine) -> None:
    """After an upgrade with other features nobody is scored, and the sweep comes to an end."""
    await activated(api, engine)
    async with transaction(engine) as connection:
        await connection.exec_driver_sql(
            "UPDATE models SET document = replace(document, '\"features_version\":1', '\"features_version\":0')"
        )
    store = PostgresStore(engine, api.store.house)
    async with client_of(engine, Setting(clock="system"), api.clock) as client:
        upgraded = Api(client, store, api.clock, api.oracle, Worker(store))
        told = await upgraded.segment("a")
        assert told["segment"]["name"] == "content", "without the model a code has no name"
        await later(upgraded, 1)
        answer = await upgraded.segment("a")
        assert (answer["segment"]["source"], answer["risk"]["churn_probability"]) == ("rules", None)
        assert await upgraded.store.ledger.sweep(now=upgraded.clock.now, limit=10) == 0


async def test_tiers_do_not_wait_for_scores(api: Api, engine: AsyncEngine) -> None:
    """They are settled while everyone is still to be scored, by another model and on another day."""
    ledger = api.store.ledger
    await put_in_force(engine, api.store.house)
    for number, days in enumerate((0, 1)):
        api.clock.now += timedelta(days=days)
        at = api.clock.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        await api.feed(
            an_order(
                event_id=f"big-{number}", order_id=f"big-{number}", customer_id="b", amount="1000000", occurred_at=at
            )
        )
        assert await ledger.settle_tiers(now=api.clock.now)
        assert (await api.read("/ingest/status"))["tiers"]["current"]
        assert await ledger.sweep(now=api.clock.now, limit=10) == 1, "whom nothing else has touched"
    assert await ledger.sweep(now=api.clock.now, limit=10) == 0
