"""The policy over HTTP: drafts, activation now and at a date, going back, and the dry run, against the real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import Api, running
from tests.support.builders import a_customer, a_return, an_order
from tests.support.ledgers import DEFAULT_POLICY, NO_GRACE, settle

from segmentation.errors import DryRunBusy
from segmentation.fields import CustomerId
from segmentation.storage.engine import create_engine
from segmentation.storage.foundation import activate_policy
from segmentation.storage.policies import PostgresPolicies
from segmentation.tiering import Tier

EVERYONE_VIP = NO_GRACE.replace(
    'level = "vip"\nwhen = { tier = ["A"] }', 'level = "vip"\nwhen = { tier = ["A", "B", "C"] }'
)
MORE_A = NO_GRACE.replace('share_a = "0.80"', 'share_a = "0.90"')
ASSESSED = ("tier", "segment", "service_level")


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    async with running(engine, policy=NO_GRACE) as api:
        yield api


async def ask(api: Api, method: str, path: str, expected: int = 200, **body: Any) -> dict[str, Any]:
    answer = await api.client.request(method, path, json=body) if body else await api.client.request(method, path)
    assert answer.status_code == expected, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def fed(api: Api) -> None:
    """Revenue 80, 15 and 5, so A, B and C."""
    await api.fed(
        *(
            an_order(event_id=name, order_id=name, customer_id=name, amount=amount, occurred_at="2026-11-20T12:00:00Z")
            for name, amount in (("a", "80.00"), ("b", "15.00"), ("c", "5.00"))
        )
    )


async def levels(api: Api) -> list[str]:
    await settle(api.store, now=api.clock.now)
    answers = (await api.segments("a", "b", "c"))["customers"]
    return [each["recommended_service_level"]["code"] for each in answers]


async def test_a_draft_is_stored_changed_put_in_force_and_gone_back_on(api: Api) -> None:
    """Everyone is assessed anew, the exits are announced, and the older version counts again after going back."""
    await fed(api)
    assert await levels(api) == ["vip", "stable", "standard"]
    await ask(api, "PUT", "/policies/2", source=DEFAULT_POLICY + "# first try", author="li")
    draft = await ask(api, "PUT", "/policies/2", source=EVERYONE_VIP, author="li", note="all")
    assert (draft["state"], draft["origin"], draft["note"], draft["source"]) == ("draft", "api", "all", EVERYONE_VIP)
    assert await levels(api) == ["vip", "stable", "standard"]
    announced = len(await api.store.changes())

    activation = await ask(api, "POST", "/policies/2/activate", author="li", reason="try")
    assert (activation["version"], activation["replaced_version"], activation["on"]) == (2, 1, None)
    assert activation["activated_at"] is not None
    assert await levels(api) == ["vip", "vip", "vip"]
    changes = (await api.store.changes())[announced:]
    assert sorted(
        (each["customer_id"], each["before"]["service_level"], each["versions"]["policy"]) for each in changes
    ) == [
        ("b", "stable", 2),
        ("c", "standard", 2),
    ]

    await ask(api, "POST", "/policies/1/activate", author="wang")
    assert await levels(api) == ["vip", "stable", "standard"]
    listed = await ask(api, "GET", "/policies")
    assert listed["active"] == 1
    assert [(each["version"], each["state"]) for each in listed["policies"]] == [(2, "retired"), (1, "active")]
    assert [(each["version"], each["author"], each["replaced_version"]) for each in listed["activations"]] == [
        (1, "wang", 2),
        (2, "li", 1),
        (1, "POLICY_FILE", None),
    ]


async def test_tiers_are_not_current_until_they_are_ranked_by_the_policy_in_force(api: Api) -> None:
    """It may rank by something else."""
    await fed(api)
    await settle(api.store, now=api.clock.now)
    assert (await ask(api, "GET", "/ingest/status"))["tiers"]["current"]
    await ask(api, "PUT", "/policies/2", source=EVERYONE_VIP)
    await ask(api, "POST", "/policies/2/activate")
    assert not (await ask(api, "GET", "/ingest/status"))["tiers"]["current"]
    await settle(api.store, now=api.clock.now)
    assert (await ask(api, "GET", "/ingest/status"))["tiers"]["current"]


async def test_activation_needs_no_body(api: Api) -> None:
    await ask(api, "PUT", "/policies/2", source=EVERYONE_VIP)
    assert (await ask(api, "POST", "/policies/2/activate"))["author"] == "unknown"


async def test_what_was_in_force_or_is_scheduled_never_changes(api: Api) -> None:
    assert "version 2" in (await ask(api, "PUT", "/policies/1", 409, source=EVERYONE_VIP))["detail"]
    assert "next free one is 2" in (await ask(api, "PUT", "/policies/7", 409, source=EVERYONE_VIP))["detail"]
    await ask(api, "PUT", "/policies/2", source=EVERYONE_VIP)
    await ask(api, "POST", "/policies/2/activate", on="2026-12-01")
    assert "scheduled" in (await ask(api, "PUT", "/policies/2", 409, source=NO_GRACE))["detail"]
    assert await ask(api, "DELETE", "/policies/2/activate") == {"version": 2, "cancelled": 1}
    assert (await ask(api, "PUT", "/policies/2", source=NO_GRACE + "#"))["state"] == "draft"


async def test_what_is_not_understood_is_refused_with_row_and_field(api: Api) -> None:
    wrong = NO_GRACE.replace("dispatch_priority = 95", "dispatch_priority = 950")
    for method, path in (("PUT", "/policies/2"), ("POST", "/policies/dry-run")):
        problem = await ask(api, method, path, 422, source=wrong)
        assert problem["detail"].startswith("source: [[service_levels]] row 1: dispatch_priority is 950; 0 to 100")


async def test_unknown_versions_are_not_found(api: Api) -> None:
    for method, path in (("GET", "/policies/9"), ("POST", "/policies/9/activate"), ("DELETE", "/policies/9/activate")):
        assert "no version 9" in (await ask(api, method, path, 404))["detail"]
    assert "no version 9" in (await ask(api, "POST", "/policies/dry-run", 404, version=9))["detail"]
    assert "either source" in (await ask(api, "POST", "/policies/dry-run", 422, examples=1))["detail"]


async def test_an_activation_at_a_date_waits_for_the_business_day(api: Api) -> None:
    """The keeper's sweep puts it in force when as_of reaches the day, not before."""
    await fed(api)
    await ask(api, "PUT", "/policies/2", source=EVERYONE_VIP)
    scheduled = await ask(api, "POST", "/policies/2/activate", on="2026-11-24", author="li")
    assert (scheduled["activated_at"], scheduled["on"]) == (None, "2026-11-24")
    assert (await ask(api, "GET", "/policies/2"))["state"] == "scheduled"
    api.clock.now += timedelta(days=1)
    assert await levels(api) == ["vip", "stable", "standard"]
    api.clock.now += timedelta(days=1)
    assert await levels(api) == ["vip", "vip", "vip"]
    assert (await ask(api, "GET", "/policies/2"))["state"] == "active"
    assert (await ask(api, "GET", "/policies"))["activations"][0]["replaced_version"] == 1


async def test_a_day_that_has_come_is_now(api: Api) -> None:
    await ask(api, "PUT", "/policies/2", source=EVERYONE_VIP)
    assert (await ask(api, "POST", "/policies/2/activate", on="2026-11-22"))["activated_at"] is not None


async def test_a_starting_worker_never_undoes_an_activation(engine: AsyncEngine, api: Api) -> None:
    """A text that the house knows stays where it is; a new file is taken, what is shipped only while nobody chose."""
    await ask(api, "PUT", "/policies/2", source=EVERYONE_VIP)
    await ask(api, "POST", "/policies/2/activate")
    assert await activate_policy(engine, NO_GRACE) == 2
    assert await activate_policy(engine, DEFAULT_POLICY, shipped=True) == 2
    assert await activate_policy(engine, MORE_A) == 3
    assert await activate_policy(engine, NO_GRACE) == 3
    assert await activate_policy(engine, MORE_A) == 3


async def test_what_is_shipped_is_taken_while_nobody_has_chosen(engine: AsyncEngine, api: Api) -> None:
    await api.store.rows("UPDATE policies SET origin = 'shipped' RETURNING 1")
    assert await activate_policy(engine, DEFAULT_POLICY + "# of the next release", shipped=True) == 2


# --- the dry run ----------------------------------------------------------------------------------------------------


async def test_a_dry_run_says_who_would_move_and_changes_nothing(api: Api) -> None:
    """By the code that decides, so activating does what it said."""
    await fed(api)
    before = await api.store.snapshots(), await api.store.changes()
    run = await ask(api, "POST", "/policies/dry-run", source=EVERYONE_VIP)
    assert (await api.store.snapshots(), await api.store.changes()) == before
    assert (run["as_of"], run["policy_version"], run["customers"], run["looked_at"], run["complete"]) == (
        *("2026-11-22", 1, 3, 3, True),
    )
    assert run["moves"]["service_level"] == [
        {"before": "stable", "after": "vip", "customers": 1, "net_revenue": "15.00", "examples": ["b"]},
        {"before": "standard", "after": "vip", "customers": 1, "net_revenue": "5.00", "examples": ["c"]},
    ]
    assert run["moves"]["tier"] == run["moves"]["segment"] == []
    assert (run["moved_customers"], run["moved_net_revenue"]) == (2, "20.00")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('share_a = "0.80"', 'share_a = "0.90"'),
        ('basis = "net_revenue"', 'basis = "orders"'),
        ('basis = "net_revenue"', 'basis = "gross_profit"'),
        ("demotion_grace_days = 0", "demotion_grace_days = 5"),
        ("new_days = 60", "new_days = 1"),
        ("medium_from = 10000\n\n[frequency]", "medium_from = 10\n\n[frequency]"),
    ],
)
async def test_activating_does_what_the_dry_run_said(api: Api, old: str, new: str) -> None:
    """Tiers on another basis, other shares, another grace: move by move."""
    await fed(api)
    await api.fed(
        an_order(
            event_id="d", order_id="d", customer_id="c", amount="1.00", cost="0.10", occurred_at="2026-11-20T12:00:00Z"
        ),
        a_return(event_id="e", customer_id="b", amount="1.00", occurred_at="2026-11-20T12:00:00Z"),
        a_customer(customer_id="z", industry="retail"),
    )
    source = NO_GRACE.replace(old, new)
    assert source != NO_GRACE
    run = await ask(api, "POST", "/policies/dry-run", source=source)
    before = await api.store.snapshots()
    await ask(api, "PUT", "/policies/2", source=source)
    assert (await ask(api, "POST", "/policies/dry-run", version=2))["moves"] == run["moves"]
    await ask(api, "POST", "/policies/2/activate")
    await settle(api.store, now=api.clock.now)
    after = await api.store.snapshots()
    for aspect in ASSESSED:
        moved = {
            customer_id: (getattr(before[customer_id], aspect), getattr(after[customer_id], aspect))
            for customer_id in after
            if getattr(before[customer_id], aspect) != getattr(after[customer_id], aspect)
        }
        told = {each: (move["before"], move["after"]) for move in run["moves"][aspect] for each in move["examples"]}
        assert told == moved
    a_orders = [
        sum(orders for name, orders in (("a", 1), ("b", 1), ("c", 2)) if side[CustomerId(name)].tier is Tier.A)
        for side in (before, after)
    ]
    dispatch = run["dispatch"]
    assert [dispatch["a_orders_a_day_before"], dispatch["a_orders_a_day_after"]] == [each / 30 for each in a_orders]


async def test_a_dry_run_moves_nobody_whom_a_person_holds(api: Api) -> None:
    """By tier and by level: the one who would be promoted, and the one who would be given more."""
    await fed(api)
    await settle(api.store, now=api.clock.now)
    until: dict[str, Any] = {"reason": "agreed", "author": "li", "expires_on": "2026-12-31"}
    for customer_id, order in (("b", {"service_level": "standard"}), ("c", {"tier": "A"})):
        await ask(api, "PUT", f"/customers/{customer_id}/override", **(until | order))
    run = await ask(api, "POST", "/policies/dry-run", source=EVERYONE_VIP)
    assert (run["moves"]["service_level"], run["moves"]["tier"], run["moved_customers"]) == ([], [], 0)


async def test_a_dry_run_of_what_is_in_force_moves_nobody(api: Api) -> None:
    """Whatever has come due meanwhile is no doing of the policy."""
    await fed(api)
    api.clock.now += timedelta(days=100)
    run = await ask(api, "POST", "/policies/dry-run", version=1)
    assert run["as_of"] == "2027-03-02"
    assert all(moves == [] for moves in run["moves"].values())


async def test_a_dry_run_before_the_first_customer_is_complete(api: Api) -> None:
    run = await ask(api, "POST", "/policies/dry-run", source=EVERYONE_VIP)
    assert (run["customers"], run["complete"], run["moved_customers"]) == (0, True, 0)


async def test_a_dry_run_without_time_for_everyone_says_so(engine: AsyncEngine, api: Api) -> None:
    """Another basis needs a figure of everyone first: with no time for that nobody is looked at."""
    await fed(api)
    policies = PostgresPolicies(engine, api.store.house)
    for source in (EVERYONE_VIP, NO_GRACE.replace('basis = "net_revenue"', 'basis = "orders"')):
        run = await policies.dry_run(source, now=api.clock.now, limit_seconds=-1, examples=1)
        assert run is not None
        assert (run.customers, run.looked_at, run.complete, run.moved_customers) == (3, 0, False, 0)


async def test_one_dry_run_at_a_time(engine: AsyncEngine, api: Api) -> None:
    policies = PostgresPolicies(engine, api.store.house)
    async with policies._trying:
        with pytest.raises(DryRunBusy):
            await policies.dry_run(1, now=api.clock.now, limit_seconds=1, examples=1)
