"""What every ledger owes its users: one suite, held against the one in memory and the one in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.builders import (
    a_complaint,
    a_customer,
    a_delivery,
    a_feedback,
    a_retraction,
    a_return,
    an_order,
    as_message,
)
from tests.support.histories import NOW
from tests.support.ledgers import (
    DEFAULT_POLICY,
    NO_GRACE,
    TOPIC,
    Store,
    Worker,
    counts,
    expected,
    in_memory,
    in_postgres,
    metrics_of,
    outcomes_of,
    rates_of,
    receipt_counts,
    settle,
    state_of,
)
from tests.support.oracle import Message, Oracle, Setting

from segmentation.budget import DEFAULT_BUDGET, RejectBudget
from segmentation.errors import PartitionLost, RejectBudgetExceeded
from segmentation.fields import CustomerId
from segmentation.ledger import Batch, Claim, PartitionProgress, Place
from segmentation.outcomes import Partition
from segmentation.storage.engine import create_engine
from segmentation.tiering import Tier

Make = Callable[..., Awaitable[Store]]
P0, P1 = Partition(TOPIC, 0), Partition(TOPIC, 1)


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture(params=["memory", "postgres"])
def make(request: pytest.FixtureRequest, engine: AsyncEngine) -> Make:
    """Makes an empty ledger of one kind."""

    async def make(*, policy: str = DEFAULT_POLICY, budget: RejectBudget = DEFAULT_BUDGET, **setting: Any) -> Store:
        if request.param == "memory":
            return await in_memory(Setting(**setting), policy, budget)
        return await in_postgres(engine, Setting(**setting), policy, budget)

    return make


async def everything(store: Store) -> list[object]:
    """All that can be read from a ledger."""
    return [
        await state_of(store),
        await store.status(now=NOW),
        await store.tiers(),
        await store.snapshots(),
        await store.changes(),
        await store.applied_at(),
        await store.rejects(),
        await store.orders(),
    ]


def messages(*events: dict[str, Any] | Message) -> list[Message]:
    return [event if isinstance(event, Message) else as_message(event) for event in events]


def order_of(customer_id: str, amount: str, *, on: str = "2026-03-01", **fields: Any) -> Message:
    """An order with ids of its own."""
    name = f"{customer_id} {amount} {on}"
    named = {"event_id": name, "order_id": name, "customer_id": customer_id, "amount": amount}
    return as_message(an_order(**(named | {"occurred_at": f"{on}T12:00:00Z"} | fields)))


async def effective_tiers(store: Store) -> dict[str, str]:
    return {customer_id: snapshot.tier.value for customer_id, snapshot in (await store.snapshots()).items()}


# --- claims ---------------------------------------------------------------------------------------------------------


async def test_a_partition_never_read_is_claimed_at_its_beginning(make: Make) -> None:
    """A first claim says no offset, and each later one where reading goes on."""
    store = await make()
    assert (await store.ledger.claim([P0], owner="a"))[P0].next_offset is None
    await Worker(store, owner="a").read(messages(an_order(), an_order()))
    assert (await store.ledger.claim([P0], owner="b"))[P0].next_offset == 2


async def test_every_claim_has_a_greater_epoch(make: Make) -> None:
    """Epochs grow by partition, whoever claims."""
    store = await make()
    epochs = [(await store.ledger.claim([P0], owner=owner))[P0].epoch for owner in ("a", "b", "b", "a")]
    assert epochs == sorted(set(epochs))


async def test_a_claim_covers_all_partitions_asked_for(make: Make) -> None:
    """One claim takes several partitions, and no other."""
    store = await make()
    claims = await store.ledger.claim([P1, P0], owner="a")
    assert set(claims) == {P0, P1}
    assert [row.partition for row in (await store.status(now=NOW)).partitions] == [P0, P1]
    assert {row.worker for row in (await store.status(now=NOW)).partitions} == {"a"}


async def test_nothing_claimed_is_nothing_done(make: Make) -> None:
    store = await make()
    assert await store.ledger.claim([], owner="a") == {}
    assert (await store.status(now=NOW)).partitions == []


@pytest.mark.parametrize("wrong", ["stale epoch", "wrong owner", "began too early", "began too late", "never claimed"])
async def test_a_batch_without_the_claim_is_lost_and_leaves_nothing(make: Make, wrong: str) -> None:
    """Compare-and-set: owner, epoch and beginning must all hold, else not a trace of the batch remains."""
    store = await make()
    worker = Worker(store, owner="a")
    await worker.read(messages(an_order(), a_return(event_id="r")))
    held = (await store.ledger.claim([P0], owner="a"))[P0]
    claims = {
        "stale epoch": {P0: Claim(held.epoch - 1, held.next_offset)},
        "wrong owner": {P0: held},
        "began too early": {P0: Claim(held.epoch, 0)},
        "began too late": {P0: Claim(held.epoch, 3)},
        "never claimed": {P1: Claim(1, None)},
    }[wrong]
    before = await everything(store)
    batch = worker.batch(
        messages(order_of("C-9", "5"), an_order(), {}, a_customer(event_id="c", name="x"), a_retraction(event_id="t")),
        partitions=[next(iter(claims)).number],
        claims=claims,
    )
    with pytest.raises(PartitionLost) as lost:
        await store.ledger.record(batch, owner="b" if wrong == "wrong owner" else "a", now=NOW)
    assert lost.value.partitions == set(claims)
    assert await everything(store) == before


async def test_one_lost_partition_takes_the_whole_batch_with_it(make: Make) -> None:
    """A batch over several partitions is recorded whole or not at all, and says which of them is lost."""
    store = await make()
    worker = Worker(store, owner="a")
    claims = await store.ledger.claim([P0, P1], owner="a")
    await store.ledger.claim([P1], owner="b")
    before = await everything(store)
    batch = worker.batch(messages(order_of("a", "1"), order_of("b", "1")), partitions=(0, 1), claims=claims)
    with pytest.raises(PartitionLost) as lost:
        await worker.record(batch)
    assert lost.value.partitions == {P1}
    assert await everything(store) == before
    assert receipt_counts(await worker.resume())["applied"] == 2


async def test_a_batch_counts_once_however_often_it_is_recorded(make: Make) -> None:
    """The same batch again begins where the partition no longer stands."""
    store = await make()
    worker = Worker(store)
    batch = worker.batch(messages(an_order()), claims=await store.ledger.claim([P0], owner=worker.owner))
    await worker.record(batch)
    before = await everything(store)
    with pytest.raises(PartitionLost):
        await worker.record(batch)
    assert await everything(store) == before


async def test_a_batch_without_messages_moves_the_offset(make: Make) -> None:
    """Offsets that carry no message, such as markers of transactions, are passed all the same."""
    store = await make()
    claim = (await store.ledger.claim([P0], owner="a"))[P0]
    receipt = await store.ledger.record(Batch([], {P0: PartitionProgress(claim, 7, 9)}), owner="a", now=NOW)
    assert (receipt_counts(receipt), receipt.customers, receipt.changes) == (
        dict.fromkeys(await counts(store), 0),
        0,
        0,
    )
    (row,) = (await store.status(now=NOW)).partitions
    assert (row.next_offset, row.end_offset, row.lag) == (7, 9, 2)


async def test_only_the_owner_notes_where_a_partition_ends(make: Make) -> None:
    """The end as the owner sees it makes the lag; another worker's word does not count."""
    store = await make()
    await store.ledger.claim([P0, P1], owner="a")
    await store.ledger.note_ends({P0: 5, P1: 6}, owner="a")
    await store.ledger.note_ends({P0: 99}, owner="b")
    assert [row.lag for row in (await store.status(now=NOW)).partitions] == [5, 6]


async def test_workers_are_known_from_their_first_sign_of_life_until_they_are_released(make: Make) -> None:
    """A claim is one, a beat is one; what a worker waits for is what its last beat said."""
    store = await make()

    async def known() -> dict[str, Any]:
        return {each.worker: each.waiting_for for each in (await store.status(now=NOW)).workers}

    await store.ledger.claim([P0], owner="a")
    waits = [{"part": "consumer", "for": "database"}]
    await store.ledger.beat(owner="b", waiting_for=waits)
    assert await known() == {"a": [], "b": waits}
    await store.ledger.claim([P1], owner="b")
    assert await known() == {"a": [], "b": waits}
    await store.ledger.beat(owner="b", waiting_for=[])
    await store.ledger.release(owner="a")
    assert await known() == {"b": []}
    assert [row.worker for row in (await store.status(now=NOW)).partitions] == [None, "b"]


async def test_one_at_a_time_leads(make: Make) -> None:
    """A second keeper waits until the first has gone."""
    store = await make()
    async with store.ledger.leading(Place.KEEPER) as first, store.ledger.leading(Place.KEEPER) as second:
        assert [await first(), await second(), await first()] == [True, False, True]
    async with store.ledger.leading(Place.KEEPER) as third:
        assert await third()


# --- outcomes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [1, 4])
async def test_the_first_of_an_id_counts_its_repeats_do_not_and_others_conflict(make: Make, batches: int) -> None:
    """Within a batch and across batches alike."""
    store = await make()
    worker = Worker(store)
    told = messages(an_order(), an_order(), an_order(amount="1"), an_order())
    for start in range(0, 4, 4 // batches):
        await worker.read(told[start : start + 4 // batches])
    assert await outcomes_of(worker) == ["applied", "passed over", "conflicting_duplicate", "passed over"]
    assert await counts(store) == {"applied": 1, "duplicate": 2, "rejected": 1, "suppressed": 0}
    assert (await metrics_of(store, "C-1") or {})["lifetime"]["net_revenue"] == "100.00"


async def test_the_first_in_order_of_reading_counts_across_partitions(make: Make) -> None:
    """A batch is read in its own order, whichever partitions its messages come from."""
    store = await make()
    worker = Worker(store)
    await worker.read(messages(an_order(amount="1"), an_order(amount="2")), partitions=(1, 0))
    assert await outcomes_of(worker) == ["applied", "conflicting_duplicate"]
    assert [row.next_offset for row in (await store.status(now=NOW)).partitions] == [1, 1]


@pytest.mark.parametrize("batches", [1, 3])
async def test_a_rejected_id_is_free_for_a_later_message(make: Make, batches: int) -> None:
    """An id is known once applied; the repeat of a rejected message is rejected again."""
    store = await make()
    worker = Worker(store)
    late = an_order(occurred_at="2100-01-01T00:00:00Z")
    told = messages(late, late, an_order())
    for start in range(0, 3, 3 // batches):
        await worker.read(told[start : start + 3 // batches])
    assert await outcomes_of(worker) == ["future", "future", "applied"]
    assert receipt_counts(await worker.read(messages(late))) == {
        "applied": 0,
        "duplicate": 0,
        "rejected": 1,
        "suppressed": 0,
    }
    assert (await outcomes_of(worker))[-1] == "conflicting_duplicate"


async def test_a_reject_is_kept_with_its_bytes(make: Make) -> None:
    """Whatever the bytes were: none, no text, U+0000."""
    store = await make()
    worker = Worker(store)
    values = [None, b"", b"\xff\x00", b'{"\\u0000":1}', b"{}", b'{"type":"\\u0000"}']
    await worker.read([Message(value) for value in values])
    kept = await store.rejects()
    assert [kept[position] for position in worker.positions] == [
        ("empty", None),
        ("empty", b""),
        ("invalid_json", b"\xff\x00"),
        ("schema", b'{"\\u0000":1}'),
        ("schema", b"{}"),
        ("schema", b'{"type":"\\u0000"}'),
    ]
    assert await state_of(store) == await state_of(await in_memory(Setting()))


async def test_an_erased_customers_messages_are_counted_and_not_stored(make: Make) -> None:
    """Suppression comes before every test of the content, and after the JSON can be read."""
    store = await make()
    await store.suppress(CustomerId("C-1"))
    worker = Worker(store)
    told = [*messages(an_order(), an_order(type="?"), an_order(customer_id="C-2", event_id="2")), Message(b"C-1")]
    receipt = await worker.read(told)
    assert receipt_counts(receipt) == {"applied": 1, "duplicate": 0, "rejected": 1, "suppressed": 2}
    assert set(await store.profiles()) == {"C-2"}
    assert await outcomes_of(worker) == ["passed over", "passed over", "applied", "invalid_json"]


async def test_the_counters_add_up_to_the_messages_read(make: Make) -> None:
    """Receipts and status agree, over several batches and partitions."""
    store = await make()
    worker = Worker(store)
    told = messages(an_order(), an_order(), {}, a_complaint(), a_complaint(text="x"), an_order(event_id="2"))
    receipts = [await worker.read(told, partitions=partitions) for partitions in ((0,), (1, 0), (2,))]
    summed = {name: sum(receipt_counts(receipt)[name] for receipt in receipts) for name in await counts(store)}
    assert summed == await counts(store) == {"applied": 3, "duplicate": 9, "rejected": 6, "suppressed": 0}
    status = await store.status(now=NOW)
    assert sum(row.next_offset or 0 for row in status.partitions) == sum(summed.values()) == 18
    assert status.customers == 1


async def test_a_currency_counts_once_its_rate_is_loaded(make: Make) -> None:
    """Loading a rate frees what was rejected for want of it, and changes nothing applied."""
    store = await make()
    worker = Worker(store)
    dollars = as_message(an_order(currency="USD", amount="2"))
    await worker.read([dollars])
    await store.add_rates(rates_of([("USD", "2026-03-02", "5")]))
    await worker.read([dollars])
    await store.add_rates(rates_of([("USD", "2026-03-01", "7")]))
    await worker.read([dollars, as_message(a_return(currency="JPY", amount=1))])
    assert await outcomes_of(worker) == ["unknown_currency", "unknown_currency", "applied", "unknown_currency"]
    await store.add_rates(rates_of([("USD", "2026-03-01", "8"), ("JPY", "2026-01-01", "0.05")]))
    await worker.read([dollars, as_message(a_return(currency="JPY", amount=1))])
    window = (await metrics_of(store, "C-1") or {})["windows"]["365d"]
    assert (window["gross_revenue"], window["returned_amount"]) == ("14.00", "0.05")


# --- reject budgets -------------------------------------------------------------------------------------------------

THREE = RejectBudget(consecutive=3, window=10)
BAD, FUTURE = Message(b"{"), as_message(an_order(occurred_at="2100-01-01T00:00:00Z"))


def good(number: int) -> Message:
    return order_of(f"C-{number}", "1")


async def halted_at(store: Store) -> dict[int, int]:
    """The partitions that stand halted, and the message after which they do."""
    return {row.partition.number: row.halt.offset for row in (await store.status(now=NOW)).partitions if row.halt}


async def test_a_batch_that_goes_on_beyond_the_budget_leaves_nothing_and_says_where_to_cut_it(make: Make) -> None:
    """Of each partition the first message that may not be recorded."""
    store = await make(budget=THREE)
    worker = Worker(store)
    batch = worker.batch(
        [good(1), BAD, good(2), BAD, good(3), BAD, good(4), BAD, BAD, BAD],
        partitions=(0, 1),
        claims=await store.ledger.claim([P0, P1], owner=worker.owner),
    )
    before = await everything(store)
    with pytest.raises(RejectBudgetExceeded) as exceeded:
        await worker.record(batch)
    assert exceeded.value.stops == {P1: 3}
    assert await everything(store) == before


@pytest.mark.parametrize("sizes", [(5,), (1, 1, 1, 1, 1), (4, 1), (2, 3)])
async def test_a_partition_halts_with_the_message_that_exceeds_its_budget(make: Make, sizes: tuple[int, ...]) -> None:
    """However messages are cut into batches; the receipt and the status say so, with the reasons."""
    store = await make(budget=THREE)
    worker = Worker(store)
    told = iter([BAD, good(1), BAD, FUTURE, BAD])
    receipts = [await worker.read([next(told) for _ in range(size)]) for size in sizes]
    assert [set(receipt.halted) for receipt in receipts] == [*[set()] * (len(sizes) - 1), {P0}]
    (row,) = (await store.status(now=NOW)).partitions
    assert row.halt is not None
    assert (row.halt.offset, row.next_offset) == (4, 5)
    assert row.halt.sentence == "3 messages in a row were rejected; 3 are too many"
    assert list(row.halt.reasons.items()) == [("invalid_json", 2), ("future", 1)]
    assert await store.ledger.halts([P0, P1]) == {P0: row.halt}


async def test_more_than_the_share_of_a_window_halts(make: Make) -> None:
    """What was seen before counts, from however many batches; only rejects do."""
    store = await make(budget=THREE)
    await store.suppress(CustomerId("gone"))
    worker = Worker(store)
    erased = as_message(a_complaint(customer_id="gone"))
    await worker.read([good(1), good(1), erased, good(2), BAD, BAD])
    await worker.read([good(3), BAD, BAD, good(4), BAD])
    assert await halted_at(store) == {}
    assert (await worker.read([BAD])).halted
    (row,) = (await store.status(now=NOW)).partitions
    assert row.halt is not None
    assert row.halt.sentence == "6 of the last 10 messages were rejected; more than 5 are too many"
    assert await counts(store) == {"applied": 4, "duplicate": 1, "rejected": 6, "suppressed": 1}


async def test_every_claim_of_a_halted_partition_says_so(make: Make) -> None:
    """Neither a restart nor a new owner lets it go on; the other partitions do."""
    store = await make(budget=THREE)
    worker = Worker(store)
    await worker.read([BAD, good(1)] * 3, partitions=(0, 1))
    for owner in ("a", "b"):
        claims = await store.ledger.claim([P0, P1], owner=owner)
        halt = claims[P0].halt
        assert halt is not None
        assert (claims[P0].next_offset, halt.offset) == (3, 2)
        assert claims[P1].halt is None


async def test_nothing_of_a_halted_partition_is_recorded(make: Make) -> None:
    """Not even good messages; only an empty batch may pass what carries none."""
    store = await make(budget=THREE)
    worker = Worker(store)
    await worker.read([BAD] * 3)
    before = await everything(store)
    batch = worker.batch([good(1), good(2)], claims=worker.claims)
    with pytest.raises(RejectBudgetExceeded) as exceeded:
        await worker.record(batch)
    assert exceeded.value.stops == {P0: 3}
    assert await everything(store) == before


async def test_what_is_resumed_goes_on_where_it_stood_with_a_budget_of_its_own(make: Make) -> None:
    """Nothing is lost or counted twice, and what still is wrong halts it again, from the beginning of a budget."""
    store = await make(budget=THREE)
    worker = Worker(store)
    await worker.read([good(1), BAD, BAD, BAD])
    halt = (await store.ledger.halts([P0]))[P0]
    assert await store.ledger.resume([P0]) == {P0: halt}
    assert await store.ledger.halts([P0]) == {}
    assert (await store.ledger.claim([P0], owner=worker.owner))[P0].halt is None
    worker.claims = dict(await store.ledger.claim([P0], owner=worker.owner))
    assert worker.claims[P0].next_offset == 4
    # Of the window before, 3 of 4 were rejects: more than half would be too many now.
    receipt = await worker.read([BAD, BAD, good(2), BAD, BAD, good(3), good(4), good(5), good(6), BAD])
    assert not receipt.halted
    assert await counts(store) == {"applied": 6, "duplicate": 0, "rejected": 8, "suppressed": 0}
    assert (await worker.read([BAD, BAD])).halted
    assert await halted_at(store) == {0: 15}


async def test_all_that_stand_halted_are_resumed_at_once(make: Make) -> None:
    store = await make(budget=THREE)
    await Worker(store).read([BAD, good(1), BAD] * 3, partitions=(0, 1, 2))
    assert set(await halted_at(store)) == {0, 2}
    resumed = await store.ledger.resume(None)
    assert {partition.number for partition in resumed} == {0, 2}
    assert all(resumed.values())
    assert await store.ledger.resume(None) == {}


async def test_what_does_not_stand_halted_is_not_resumed(make: Make) -> None:
    """It says which partition is merely going on and which is unknown; the budget of neither begins anew."""
    store = await make(budget=THREE)
    worker = Worker(store)
    await worker.read([BAD, BAD])
    assert await store.ledger.resume([P0, P1]) == {P0: None}
    assert (await worker.read([BAD])).halted


async def test_budgets_of_several_partitions_in_one_batch_are_each_their_own(make: Make) -> None:
    store = await make(budget=THREE)
    worker = Worker(store)
    batch = worker.batch(
        [BAD, BAD, BAD, good(1), BAD, BAD, BAD, BAD],
        partitions=(0, 1),
        claims=await store.ledger.claim([P0, P1], owner=worker.owner),
    )
    with pytest.raises(RejectBudgetExceeded) as exceeded:
        await worker.record(batch)
    assert exceeded.value.stops == {P0: 3}


# --- what counts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("first", ["event", "retraction"])
@pytest.mark.parametrize("build", [a_return, a_complaint, a_feedback])
async def test_a_retraction_takes_back_whichever_comes_first(
    make: Make, build: Callable[..., dict[str, Any]], first: str, batches: int
) -> None:
    """In one batch or in two, before the event or after it, once or twice."""
    store = await make()
    worker = Worker(store)
    event, taken = build(event_id="e"), a_retraction(retracts="e")
    told = messages(event, taken) if first == "event" else messages(taken, event)
    for start in range(0, 2, 2 // batches):
        await worker.read(told[start : start + 2 // batches])
    await worker.read(messages(a_retraction(event_id="again", retracts="e")))
    window = (await metrics_of(store, "C-1") or {})["windows"]["365d"]
    counted = (window["returns"], window["returned_amount"], window["complaints"], window["feedback_score"])
    assert counted == (0, "0.00", 0, None)


async def test_another_customers_retraction_takes_nothing_back(make: Make) -> None:
    store = await make()
    await Worker(store).read(messages(a_complaint(event_id="e"), a_retraction(retracts="e", customer_id="C-2")))
    assert (await metrics_of(store, "C-1") or {})["windows"]["365d"]["complaints"] == 1


async def test_a_delivery_that_comes_first_counts_with_its_order(make: Make) -> None:
    """It makes the customer known, and counts nothing until the order is there."""
    store = await make()
    worker = Worker(store)
    await worker.read(messages(a_delivery(occurred_at="2026-03-01T11:00:00Z")))
    assert (await metrics_of(store, "C-1") or {})["windows"]["7d"]["on_time_rate"] is None
    await worker.read(messages(an_order()))
    assert (await metrics_of(store, "C-1") or {})["windows"]["7d"]["on_time_rate"] == 1.0


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("first", ["order", "delivery"])
@pytest.mark.parametrize(("reported_on", "rate"), [("2026-02-28", 1.0), ("2026-03-02", 0.0)])
async def test_of_an_order_and_its_deliveries_the_latest_witness_counts(
    make: Make, reported_on: str, rate: float, first: str, batches: int
) -> None:
    """The order of March 1st says on time, the delivery says late: the later word counts, whichever comes first."""
    store = await make(clock="system")
    worker = Worker(store)
    order = an_order(promised_at="2026-03-05T00:00:00Z", delivered_at="2026-03-04T00:00:00Z")
    late = {"promised_at": None, "delivered_at": "2026-03-06T00:00:00Z"}
    delivery = a_delivery(occurred_at=f"{reported_on}T12:00:00Z", **late)
    told = messages(order, delivery) if first == "order" else messages(delivery, order)
    for start in range(0, 2, 2 // batches):
        await worker.read(told[start : start + 2 // batches])
    assert (await metrics_of(store, "C-1") or {})["windows"]["365d"]["on_time_rate"] == rate


async def test_sums_go_beyond_64_bits(make: Make) -> None:
    """A thousand of the greatest amounts, at a rate that leaves 0.99999999999999, are rounded one by one and summed."""
    store = await make(rates=(("USD", "2026-01-01", "1000000.000000000001"),))
    greatest = {"amount": "999999999999.99", "cost": "0.01", "currency": "USD", "items": 10**9}
    told = [as_message(an_order(event_id=f"{n}", order_id=f"{n}", **greatest)) for n in range(1_000)]
    await Worker(store).read(told)
    await settle(store)
    window = (await metrics_of(store, "C-1") or {})["windows"]["365d"]
    assert window["gross_revenue"] == "999999999999990001000.00"
    assert window["gross_revenue"] == window["net_revenue"]
    assert window["items"] == 10**12
    assert (await store.tiers()).cutoffs == {"A": (99_999_999_999_999_000_100_000, "C-1"), "B": None}


# --- the clock ------------------------------------------------------------------------------------------------------


async def test_the_event_clock_stands_until_the_first_event_and_never_moves_back(make: Make) -> None:
    """It is the greatest business day of any applied event's occurred_at; rejects do not move it."""
    store = await make(clock="event", timezone="Asia/Shanghai")
    worker = Worker(store)
    days = []
    for event in (
        an_order(occurred_at="2100-01-01T00:00:00Z"),
        a_complaint(event_id="1", occurred_at="2026-02-01T15:59:59Z"),
        a_complaint(event_id="2", occurred_at="2026-02-01T16:00:00Z"),
        a_complaint(event_id="3", occurred_at="2025-02-01T00:00:00Z"),
        an_order(ordered_at="2026-05-01T00:00:00Z", occurred_at="2026-02-03T00:00:00Z"),
    ):
        await worker.read(messages(event))
        days.append((await store.status(now=NOW)).as_of)
    assert days == [None, date(2026, 2, 1), date(2026, 2, 2), date(2026, 2, 2), date(2026, 2, 3)]


async def test_before_the_first_event_there_is_nothing_to_do(make: Make) -> None:
    """No as_of, nothing to sweep, nothing to settle."""
    store = await make(clock="event")
    assert (await store.status(now=NOW)).as_of is None
    assert await store.ledger.sweep(now=NOW, limit=10) == 0
    assert await store.ledger.settle_tiers(now=NOW) is False
    assert (await store.status(now=NOW)).tiers_current


async def test_the_system_clock_needs_no_event(make: Make) -> None:
    """as_of is today's business day, in the house's own zone."""
    store = await make(clock="system", timezone="Pacific/Apia")
    assert (await store.status(now=NOW)).as_of == date(2026, 11, 23)


@pytest.mark.parametrize("clock", ["event", "system"])
async def test_the_sweep_finds_who_is_due_a_few_at_a_time(make: Make, clock: str) -> None:
    """As days pass windows empty; the sweep says how many it assessed, and comes to an end."""
    store = await make(clock=clock)
    worker = Worker(store)
    first = [order_of(customer_id, "10", on="2026-11-22") for customer_id in "abcde"]
    await worker.read(first)
    await settle(store)
    assert await store.ledger.sweep(now=NOW, limit=10) == 0
    later = NOW + timedelta(days=365)
    if clock == "event":
        await worker.read([order_of("z", "1", on="2027-11-22")], now=later)
    swept = [await store.ledger.sweep(now=later, limit=2) for _ in range(4)]
    assert swept == [2, 2, 1, 0]
    values = {customer_id: snapshot.value for customer_id, snapshot in (await store.snapshots()).items()}
    assert {values[CustomerId(customer_id)] for customer_id in "abcde"} == {0}


async def test_an_event_of_tomorrow_counts_when_tomorrow_comes(make: Make) -> None:
    """An event may be up to 300 s early, and so of a business day that as_of has not reached."""
    store = await make(clock="system")
    midnight = NOW.replace(hour=0) + timedelta(days=1)
    early = midnight - timedelta(seconds=200)
    await Worker(store).read([order_of("a", "10", occurred_at="2026-11-23T00:00:00Z")], now=early)
    await settle(store, now=early)
    assert (await effective_tiers(store))["a"] == "unrated"
    assert (await metrics_of(store, "a", early) or {})["lifetime"]["orders"] == 0
    await settle(store, now=midnight)
    assert (await effective_tiers(store))["a"] == "A"
    assert (await metrics_of(store, "a", midnight) or {})["lifetime"]["orders"] == 1


@pytest.mark.parametrize("days", [1, 400])
async def test_a_clock_put_forward_and_back_leaves_nothing_wrong(make: Make, days: int) -> None:
    """What was assessed for a day that is ahead again is assessed anew, before anyone is ranked."""
    setting = Setting(clock="system")
    store = await make(clock="system", policy=NO_GRACE)
    oracle, worker = Oracle(setting), Worker(store)

    async def read(message: Message, now: datetime) -> None:
        oracle.read(message, now=now)
        await worker.read([message], now=now)

    leaving = (NOW - timedelta(days=364)).date().isoformat()
    await read(order_of("leaving", "1000", on=leaving), NOW)
    await read(order_of("other", "10", on="2026-11-01"), NOW)
    await settle(store, now=NOW)
    right = await state_of(store, NOW)
    assert right == expected(oracle, NOW)

    wrong = NOW + timedelta(days=days)
    await settle(store, now=wrong)
    await read(order_of("late", "20", on="2026-11-20"), wrong)
    await settle(store, now=wrong)
    assert await state_of(store, wrong) == expected(oracle, wrong)

    await settle(store, now=NOW)
    assert await state_of(store, NOW) == expected(oracle, NOW)
    assert {snapshot.as_of for snapshot in (await store.snapshots()).values()} == {NOW.date()}
    for now in (NOW, NOW + timedelta(days=1)):
        await settle(store, now=now)
        assert await state_of(store, now) == expected(oracle, now)
        values = {customer_id: snapshot.value for customer_id, snapshot in (await store.snapshots()).items()}
        assert values[CustomerId("leaving")] == (100_000 if now == NOW else 0)


async def test_a_clock_put_back_refuses_what_lies_ahead_of_it_until_that_is_replayed(make: Make) -> None:
    """By the contract; once the clock is right again the same messages are applied, and nothing is missing."""
    setting = Setting(clock="system")
    store = await make(clock="system")
    oracle, worker = Oracle(setting), Worker(store)
    wrong = NOW - timedelta(days=1)
    told = [order_of("a", "10", on="2026-11-20"), order_of("b", "90", occurred_at=f"{NOW:%Y-%m-%dT%H:%M:%SZ}")]
    for now in (wrong, NOW, wrong, NOW):
        for message in told:
            oracle.read(message, now=now)
            await worker.read([message], now=now)
        await settle(store, now=now)
        assert await counts(store, now) == oracle.counts
        assert await state_of(store, now) == expected(oracle, now)
    assert (await outcomes_of(worker))[:4] == ["applied", "future", "passed over", "applied"]


async def test_a_clock_put_back_closes_no_day_that_is_not_over(make: Make) -> None:
    """The grace of a demotion runs from yesterday at the latest, and a tier that stands today closes today."""
    store = await make(clock="system")
    worker = Worker(store)
    await worker.read([order_of("a", "80", on="2026-11-01")])
    await settle(store)
    ahead = NOW + timedelta(days=30)
    await worker.read([order_of("giant", "10000", on="2026-11-02")], now=ahead)
    await settle(store, now=ahead)
    await settle(store, now=NOW)
    snapshot = (await store.snapshots())[CustomerId("a")]
    assert (snapshot.history.computed, snapshot.tier) == (Tier.C, Tier.A)
    assert snapshot.history.closed_a == NOW.date() - timedelta(days=1)
    assert snapshot.history.computed_since == NOW.date()
    assert (await store.snapshots())[CustomerId("giant")].tier_since <= NOW.date()
    await settle(store, now=NOW + timedelta(days=14))
    assert (await effective_tiers(store))["a"] == "C"


# --- tiers ----------------------------------------------------------------------------------------------------------


async def test_settling_ranks_everyone_and_says_so(make: Make) -> None:
    """Each tier is the smallest prefix that reaches its share; those without value are unrated."""
    store = await make()
    amounts = {"b": "79", "a": "14", "d": "4", "c": "3", "zero": "0"}
    await Worker(store).read([order_of(customer_id, amount) for customer_id, amount in amounts.items()])
    assert not (await store.status(now=NOW)).tiers_current
    assert await store.ledger.settle_tiers(now=NOW)
    assert await effective_tiers(store) == {"b": "A", "a": "A", "d": "B", "c": "C", "zero": "unrated"}
    overview = await store.tiers()
    assert (overview.as_of, overview.basis, overview.total) == (date(2026, 3, 1), "net_revenue", 10_000)
    assert overview.cutoffs == {"A": (1_400, "a"), "B": (400, "d")}
    shares = [(share.tier, share.customers, share.value) for share in overview.tiers]
    assert shares == [("A", 2, 9_300), ("B", 1, 400), ("C", 1, 300), ("unrated", 1, 0)]
    status = await store.status(now=NOW)
    assert (status.tiers_current, status.tiers_as_of) == (True, date(2026, 3, 1))


async def test_settling_again_with_nothing_new_does_nothing(make: Make) -> None:
    """It returns False and leaves everything as it was, updated_at included."""
    store = await make()
    await Worker(store).read([order_of("a", "10"), order_of("b", "20")])
    await settle(store)
    before = await everything(store)
    assert await store.ledger.settle_tiers(now=NOW + timedelta(hours=1)) is False
    assert await everything(store) == before


async def test_settling_waits_for_the_sweep(make: Make) -> None:
    """While snapshots are due the values are yesterday's, so nobody is ranked by them."""
    store = await make(clock="system")
    await Worker(store).read([order_of("a", "10", on="2026-11-22")])
    await settle(store)
    later = NOW + timedelta(days=400)
    assert await store.ledger.settle_tiers(now=later) is False
    await settle(store, now=later)
    assert (await store.tiers()).cutoffs == {"A": None, "B": None}


async def test_one_customers_order_moves_anothers_tier(make: Make) -> None:
    """A promotion counts at once; a demotion waits for its grace."""
    store = await make(clock="system")
    worker = Worker(store)
    await worker.read([order_of("a", "80"), order_of("b", "20")])
    await settle(store)
    assert await effective_tiers(store) == {"a": "A", "b": "B"}
    tomorrow = NOW + timedelta(days=1)
    await worker.read([order_of("giant", "10000")], now=tomorrow)
    await settle(store, now=tomorrow)
    snapshots = await store.snapshots()
    assert {customer_id: each.history.computed.value for customer_id, each in snapshots.items()} == {
        "a": "C",
        "b": "C",
        "giant": "A",
    }
    assert await effective_tiers(store) == {"a": "A", "b": "B", "giant": "A"}


async def test_a_demotion_within_its_first_day_needs_no_grace(make: Make) -> None:
    """Only tiers that a day closed with are kept, so what a tier was for some hours is forgotten."""
    store = await make()
    worker = Worker(store)
    await worker.read([order_of("a", "80")])
    await settle(store)
    await worker.read([order_of("giant", "10000")])
    await settle(store)
    assert await effective_tiers(store) == {"a": "C", "giant": "A"}


async def test_a_tier_outlives_its_value_by_the_grace(make: Make) -> None:
    """By the event clock: all gone after 366 days; the days in between closed with A, so 14 more hold it."""
    store = await make(clock="event")
    worker = Worker(store)
    await worker.read([order_of("a", "80", on="2024-03-01")])
    await settle(store)
    await worker.read([order_of("b", "1", on="2025-03-02")])
    await settle(store)
    snapshot = (await store.snapshots())[CustomerId("a")]
    assert (snapshot.history.computed, snapshot.tier) == (Tier.UNRATED, Tier.A)
    assert snapshot.history.effective(date(2025, 3, 2), 14) == (Tier.A, date(2025, 3, 16))
    assert snapshot.due_on <= date(2025, 3, 16)
    changes = len(await store.changes())
    await worker.read([order_of("b", "1", on="2025-03-15")])
    await settle(store)
    assert (await effective_tiers(store))["a"] == "A"
    await worker.read([order_of("b", "1", on="2025-03-16")])
    await settle(store)
    assert (await effective_tiers(store))["a"] == "unrated"
    fallen = (await store.changes())[changes:]
    assert [(change["customer_id"], change["as_of"], change["after"]["value_tier"]) for change in fallen] == [
        ("a", "2025-03-16", "unrated")
    ]


async def test_a_grace_of_0_days_demotes_at_once(make: Make) -> None:
    store = await make(clock="event", policy=NO_GRACE)
    worker = Worker(store)
    await worker.read([order_of("a", "80", on="2024-03-01")])
    await settle(store)
    await worker.read([order_of("b", "1", on="2025-03-02")])
    await settle(store)
    assert await effective_tiers(store) == {"a": "unrated", "b": "A"}


# --- changes --------------------------------------------------------------------------------------------------------


async def test_a_change_is_announced_only_where_tier_segment_or_level_changes(make: Make) -> None:
    """A first appearance is a change; more of the same is none; a receipt says how many there were."""
    store = await make(clock="event")
    worker = Worker(store)
    assert (await worker.read([order_of("a", "80")])).changes == 1
    (first,) = await store.changes()
    assert (first["customer_id"], first["before"]) == ("a", None)
    assert first["after"]["value_tier"] == "unrated"
    assert (await worker.read([order_of("a", "81"), as_message(a_complaint(customer_id="a"))])).changes == 0
    await settle(store)
    assert len(await store.changes()) == 2
    second = (await store.changes())[1]
    assert second["before"] == first["after"]
    assert second["after"] == {
        "value_tier": "A",
        "segment": "strategic",
        "service_level": "vip",
        "churn_warning": False,
    }
    assert second["reasons"]
    assert second["as_of"] == "2026-03-01"
    assert second["versions"] == {"policy": 1, "model": None}
    assert (await worker.read([order_of("a", "1")])).changes == 0
    await settle(store)
    assert len(await store.changes()) == 2
