"""Models in a real PostgreSQL: published, put in force, taken back, and made from the customers that are there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.ledgers import in_postgres
from tests.support.model_documents import a_document
from tests.support.oracle import Setting

from segment_trainer import __main__ as trainer
from segment_trainer import measures, models, segmenting
from segmentation.access import Action, Actor, ActorKind, AuditEntry, Deed
from segmentation.errors import ModelInvalid
from segmentation.ledger import House
from segmentation.storage.audit import PostgresAudit, operator
from segmentation.storage.engine import create_engine, transaction
from segmentation.storage.foundation import Library, load_state
from segmentation.storage.models import PostgresModels
from segmentation.versions import ModelActivationKind, Refusal

HOUSE = House("event", "CNY", "UTC")
FIRST = date(2025, 1, 1)
LAST = FIRST + timedelta(days=420)


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def store(engine: AsyncEngine) -> PostgresModels:
    await in_postgres(engine, Setting(clock="event"))
    return PostgresModels(engine, HOUSE)


async def published(store: PostgresModels, seed: int = 1) -> int:
    document = a_document(seed).encoded().decode()
    found = await store.publish(document, author="Ada", note=None, refusals=[], forced_because=None)
    return found.version


async def in_force(engine: AsyncEngine) -> int:
    async with transaction(engine) as connection:
        return (await load_state(connection)).model_version


async def trail(engine: AsyncEngine) -> Sequence[AuditEntry]:
    return await PostgresAudit(engine).entries(action=None, customer_id=None, before_id=None, limit=50)


async def activate(store: PostgresModels, *versions: int) -> None:
    for version in versions:
        assert await store.activate(version, author="Ada", reason="better") is not None


async def test_before_anything_nothing_is_in_force(engine, store):
    assert await store.versions() == []
    assert await store.activations(limit=5) == []
    assert await in_force(engine) == 0
    assert await store.rollback(author="Ada", reason="why not") is None
    assert await store.activate(1, author="Ada", reason="why not") is None


async def test_publishing_numbers_and_puts_nothing_in_force(engine, store):
    assert [await published(store, seed) for seed in (1, 2, 3)] == [1, 2, 3]
    assert await in_force(engine) == 0
    assert [(each.version, each.in_force) for each in await store.versions()] == [(3, False), (2, False), (1, False)]
    assert await store.document(2) == a_document(2).encoded().decode()
    found = await store.find(2)
    assert found is not None
    assert (found.author, found.card, found.refusals) == ("Ada", {"cut": "2026-01-01"}, [])
    assert await store.find(4) is None


async def test_what_was_overruled_is_kept(store):
    refusals = [Refusal("unstable", "segments come and go"), Refusal("renames", "half of them")]
    stored = await store.publish(
        a_document().encoded().decode(), author="Ada", note="a try", refusals=refusals, forced_because="no other"
    )
    found = await store.find(stored.version)
    assert found is not None
    assert (found.refusals, found.forced_because, found.note) == (refusals, "no other", "a try")


async def test_what_cannot_be_used_is_not_stored(store):
    with pytest.raises(ModelInvalid, match="not understood"):
        await store.publish("{}", author="Ada", note=None, refusals=[], forced_because=None)
    other = structs.replace(a_document(), base_currency="JPY").encoded().decode()
    with pytest.raises(ModelInvalid, match="counts in JPY, and this data in CNY"):
        await store.publish(other, author="Ada", note=None, refusals=[], forced_because=None)
    assert await store.versions() == []


async def test_rolling_back_goes_back_step_by_step_to_none(engine, store):
    one, two, three = [await published(store, seed) for seed in (1, 2, 3)]
    await activate(store, one, two, two, three)
    seen = []
    for _ in range(3):
        done = await store.rollback(author="Grace", reason="worse")
        assert done is not None
        seen.append((done.version, done.replaced_version, await in_force(engine)))
    assert seen == [(two, three, two), (one, two, one), (None, one, 0)]
    assert await store.rollback(author="Grace", reason="worse") is None
    steps = await store.activations(limit=50)
    assert [each.kind for each in steps[:3]] == [ModelActivationKind.ROLLBACK] * 3
    assert {each.author for each in steps} == {"Ada", "Grace"}


async def test_after_a_rollback_another_may_follow(engine, store):
    one, two, three = [await published(store, seed) for seed in (1, 2, 3)]
    await activate(store, one, two)
    await store.rollback(author="Grace", reason="worse")
    await activate(store, three)
    done = await store.rollback(author="Grace", reason="worse still")
    assert done is not None
    assert (done.version, await in_force(engine)) == (one, one)


async def test_publishers_at_once_get_numbers_of_their_own(store):
    found = await asyncio.gather(*(published(store, seed) for seed in range(4)))
    assert sorted(found) == [1, 2, 3, 4]


async def test_the_library_reads_what_is_in_force(engine, store):
    version = await published(store, 2)
    library = Library("CNY")
    async with transaction(engine) as connection:
        assert await library.model(connection, 0) is None
        model = await library.model(connection, version)
        assert model is not None
        assert (model.version, model.document) == (version, a_document(2))
        assert await library.model(connection, version) is model
        assert await library.model(connection, 77) is None
        assert await Library("GBP").model(connection, version) is None


async def test_a_model_that_an_upgrade_left_behind_scores_nobody_and_cannot_be_activated(engine, store):
    version = await published(store)
    old = structs.replace(a_document(), features_version=0).encoded().decode()
    async with transaction(engine) as connection:
        await connection.execute(text("UPDATE models SET document = :old"), {"old": old})
        assert await Library("CNY").model(connection, version) is None
    with pytest.raises(ModelInvalid, match="train it anew"):
        await store.activate(version, author="Ada", reason="again")


async def test_what_is_done_with_models_is_in_the_audit_trail(engine, store):
    by = Actor(ActorKind.COMMAND, "li.wei", "li.wei")
    refusals = [Refusal("unstable", "segments come and go")]
    document = a_document().encoded().decode()
    await store.publish(document, author="Ada", note="a try", refusals=refusals, forced_because="no other", by=by)
    await store.activate(1, author="Ada", reason="better", by=by)
    await store.rollback(author="Grace", reason="worse", by=by)
    assert await store.activate(2, author="Ada", reason="there is none", by=by) is None
    assert await store.rollback(author="Grace", reason="nothing is left", by=by) is None
    rolled_back, activated, published = await trail(engine)
    assert {each.by for each in (rolled_back, activated, published)} == {by}
    overruled = {"overruled": ["unstable"], "forced_because": "no other"}
    assert published.deed == Deed(Action.MODEL_PUBLISHED, "1", None, "a try", "Ada", overruled)
    assert activated.deed == Deed(Action.MODEL_ACTIVATED, "1", None, "better", "Ada", {"replaced": None})
    assert rolled_back.deed == Deed(Action.MODEL_ROLLED_BACK, "1", None, "worse", "Grace", {"in_force_again": None})


async def test_without_its_entry_nothing_is_done_with_a_model(engine, store):
    version = await published(store)
    await activate(store, version)
    document = a_document(2).encoded().decode()
    async with transaction(engine) as connection:
        full_up = "ALTER TABLE audit ADD CONSTRAINT full_up CHECK (action NOT LIKE 'model%') NOT VALID"
        await connection.execute(text(full_up))
    try:
        for change in (
            partial(store.publish, document, author="Ada", note=None, refusals=[], forced_because=None),
            partial(store.activate, version, author="Ada", reason="again"),
            partial(store.rollback, author="Ada", reason="back"),
        ):
            with pytest.raises(IntegrityError, match="full_up"):
                await change()
    finally:
        async with transaction(engine) as connection:
            await connection.execute(text("ALTER TABLE audit DROP CONSTRAINT full_up"))
    assert [each.version for each in await store.versions()] == [version]
    assert len(await store.activations(limit=5)) == 1
    assert await in_force(engine) == version


# --- by command, from the customers of the database -----------------------------------------------------------------


def _buckets() -> list[dict[str, Any]]:
    """Customers with rates and lives of their own."""
    chance = np.random.default_rng(11)
    rows = []
    for number in range(400):
        gap, usual = chance.gamma(2, 12), chance.lognormal(10, 1)
        day = int(chance.integers(0, 300))
        while day <= 420:
            rows.append({"customer_id": f"C-{number}", "day": FIRST + timedelta(days=day), "amount": int(usual)})
            if chance.random() < 0.1:
                break
            day += max(int(chance.exponential(gap)), 1)
    return rows


_EMPTY = (
    "gross_profit", "orders_with_cost", "items", "parcels", "weight_grams", "orders_on_time", "orders_with_promise",
    "returns", "returned_amount", "complaints", "feedbacks", "feedback_total",
)  # fmt: skip


@pytest.fixture
async def peopled(
    store: PostgresModels, engine: AsyncEngine, shared_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> PostgresModels:
    monkeypatch.setenv("DATABASE_URL", shared_database_url)
    monkeypatch.setattr(measures, "RESAMPLES", 4)
    monkeypatch.setattr(segmenting, "BOOTSTRAPS", 3)
    monkeypatch.setitem(models._TREES, "max_iter", 8)
    async with transaction(engine) as connection:
        await connection.execute(
            text(
                f"INSERT INTO day_buckets (customer_id, day, orders, gross_revenue, {', '.join(_EMPTY)}) "
                f"VALUES (:customer_id, :day, 1, :amount, {', '.join('0' for _ in _EMPTY)})"
            ),
            _buckets(),
        )
        await connection.execute(
            text("INSERT INTO customers (customer_id) SELECT DISTINCT customer_id FROM day_buckets")
        )
        await connection.execute(text("UPDATE house SET as_of = :last"), {"last": LAST})
    return store


def read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


async def command(*arguments: str) -> None:
    await asyncio.to_thread(trainer.main, list(arguments))


async def test_from_training_to_rolling_back_by_command(peopled, engine, tmp_path: Path, capsys):
    first, second = str(tmp_path / "first.json"), str(tmp_path / "second.json")
    who = ("--author", "Ada")
    await command("train", "--database", "--horizon", "60", "--output", first)
    assert "naive rule" in capsys.readouterr().out
    await command("publish", first, *who, "--note", "the first", "--force", "a test of few customers")
    assert "Stored as version 1" in capsys.readouterr().out
    await command("activate", "1", *who, "--reason", "to begin")
    assert "Model 1 is in force, in place of no model" in capsys.readouterr().out

    # From the same customers, held against the first: as good, and nobody is called otherwise.
    await command("train", "--database", "--horizon", "60", "--output", second)
    card = json.loads(read(second))["card"]
    assert (card["in_force"]["version"], card["in_force"]["renamed_share"]) == (1, 0)
    assert card["data"]["source"] == "database"
    await command("publish", second, *who, "--force", "a test of few customers")
    await command("activate", "2", *who, "--reason", "to go on")
    capsys.readouterr()

    await command("show", "2", "--json")
    assert json.loads(capsys.readouterr().out)["card"]["in_force"]["version"] == 1
    await command("show", "2")
    assert "Model 2, in force" in capsys.readouterr().out
    await command("show", "1", "--document")
    assert capsys.readouterr().out.strip() == read(first)
    await command("list")
    listed = capsys.readouterr().out
    assert "the first" in listed
    assert "model 2 in place of 1, by Ada: to go on" in listed
    await command("rollback", *who, "--reason", "to go back")
    assert "Model 1 is in force again, in place of model 2" in capsys.readouterr().out
    await command("rollback", *who, "--reason", "further")
    assert "The rules decide from now on" in capsys.readouterr().out
    await command("list", "--json")
    assert [each["kind"] for each in json.loads(capsys.readouterr().out)["activations"]][:2] == ["rollback"] * 2
    assert await in_force(engine) == 0
    done = await trail(engine)
    assert {each.by for each in done} == {operator()}
    assert [each.deed.action for each in done] == [
        *[Action.MODEL_ROLLED_BACK] * 2,
        *[Action.MODEL_ACTIVATED, Action.MODEL_PUBLISHED] * 2,
    ]


async def test_publishing_names_every_reason_and_stores_nothing(peopled, engine, tmp_path: Path):
    await activate(peopled, await published(peopled))
    (tmp_path / "model.json").write_bytes(a_document(2).encoded())
    with pytest.raises(SystemExit) as refused:
        await command("publish", str(tmp_path / "model.json"), "--author", "Ada")
    assert "incomplete: the card lacks what it is judged by" in str(refused.value.code)
    assert "--force" in str(refused.value.code)
    assert len(await peopled.versions()) == 1


async def test_drift_is_told_of_the_model_in_force(peopled, engine, tmp_path: Path, capsys):
    path = str(tmp_path / "model.json")
    await command("train", "--database", "--horizon", "60", "--output", path)
    await command("publish", path, "--author", "Ada", "--force", "a test of few customers")
    with pytest.raises(SystemExit, match="no model is in force"):
        await command("drift")
    await command("activate", "1", "--author", "Ada", "--reason", "to begin")
    capsys.readouterr()
    await command("drift", "--json")
    before = json.loads(capsys.readouterr().out)
    assert (before["model"], before["as_of"], before["customers"]) == (1, LAST.isoformat(), 400)
    moved = {each["name"]: each["psi"] for each in before["drift"]}

    # Everyone orders a hundred times as much.
    async with transaction(engine) as connection:
        await connection.execute(text("UPDATE day_buckets SET gross_revenue = gross_revenue * 100"))
    await command("drift", "--json")
    after = {each["name"]: each for each in json.loads(capsys.readouterr().out)["drift"]}
    assert after["gross"]["verdict"] == "much"
    assert after["gross"]["psi"] > moved["gross"] + 0.25
    assert after["recency_days"]["psi"] == moved["recency_days"]
    await command("drift", "1")
    told = capsys.readouterr().out
    assert "expected_value" in told
    assert "train a new model" in told


async def test_a_database_that_nobody_began_is_said_to_be_so(database_url, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", database_url)
    with pytest.raises(SystemExit, match="holds nothing of Tierline yet"):
        await command("list")


async def test_the_same_customers_in_another_order_make_the_same_model(peopled, engine, tmp_path: Path):
    for name in ("one", "two"):
        await command("train", "--database", "--horizon", "60", "--output", str(tmp_path / name))
        async with transaction(engine) as connection:
            await connection.execute(text("CREATE TABLE kept AS SELECT * FROM day_buckets"))
            await connection.execute(text("TRUNCATE day_buckets"))
            await connection.execute(text("INSERT INTO day_buckets SELECT * FROM kept ORDER BY day DESC, customer_id"))
            await connection.execute(text("DROP TABLE kept"))
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one", "two"))
    for each in (one, two):
        del each["card"]["trained_at"]
    assert one == two
