"""Automated decisions about private persons (PIPL art. 24): explained, overruled by a person, and never another price.

The rights that docs/privacy.md promises, each by the way that it names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import Api, running
from tests.support.builders import a_customer, an_order
from tests.support.ledgers import DEFAULT_POLICY

from segmentation.storage.engine import create_engine
from segmentation.storage.personal import PERSONAL, Fate

PRIVACY = (Path(__file__).resolve().parents[2] / "docs" / "privacy.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def api(engine: AsyncEngine) -> AsyncIterator[Api]:
    """Two customers, equal but that one is a person; large enough for the offer that changes the price."""
    async with running(engine) as api:
        for customer_id, subject_type in (("a-person", "person"), ("a-company", "company")):
            await api.feed(a_customer(customer_id=customer_id, event_id=customer_id, subject_type=subject_type))
            for number in range(1, 13):
                await api.feed(
                    an_order(
                        customer_id=customer_id,
                        event_id=f"{customer_id}-{number}",
                        order_id=f"{number}",
                        amount="500000.00",
                        occurred_at=f"2026-11-{number:02}T12:00:00Z",
                    )
                )
        await api.settle()
        yield api


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_every_decision_about_a_person_is_explained_in_words(api: Api, language: str) -> None:
    explained = await api.read("/customers/a-person/explanation", headers={"Accept-Language": language})
    stands = await api.segment("a-person", headers={"Accept-Language": language})
    assert explained["service_level"]["reasons"] == stands["recommended_service_level"]["reasons"] != []
    words = "".join(explained["service_level"]["reasons"])
    assert any("\u4e00" <= letter <= "\u9fff" for letter in words) == (language == "zh")


async def test_a_human_decision_takes_the_place_of_the_automated_one(api: Api) -> None:
    automated = (await api.segment("a-person"))["recommended_service_level"]["code"]
    decided = "standard" if automated != "standard" else "vip"
    order = {
        "service_level": decided,
        "reason": "asked for a human decision",
        "author": "li.wei",
        "expires_on": "2030-01-01",
    }
    answer = await api.client.put("/customers/a-person/override", json=order)
    assert answer.status_code == 200, answer.text
    stands = await api.segment("a-person")
    assert stands["recommended_service_level"]["code"] == decided
    assert stands["tier"]["override"]["author"] == "li.wei"


async def test_what_changes_the_price_is_offered_to_the_company_and_never_to_the_person(api: Api) -> None:
    care = {each: (await api.segment(each))["recommended_service_level"] for each in ("a-person", "a-company")}
    offered = {each: {offer["code"] for offer in its["offers"]} for each, its in care.items()}
    assert offered["a-company"] - offered["a-person"] == {"volume_agreement"}
    assert care["a-person"]["code"] == care["a-company"]["code"]


async def test_a_policy_that_would_do_it_is_refused(api: Api) -> None:
    unfair = DEFAULT_POLICY.replace('subject_type = ["company"], size', "size")
    assert unfair != DEFAULT_POLICY
    answer = await api.client.put("/policies/2", json={"source": unfair, "author": "li.wei"})
    assert answer.status_code == 422
    assert "change the price" in answer.text


def test_the_page_on_privacy_names_every_table_that_customers_are_in() -> None:
    for name, holding in PERSONAL.items():
        row = f"| `{name}` | {holding.purpose} | {holding.fate.value} |"
        assert (row in PRIVACY) == (holding.fate is not Fate.KEPT), name


def test_the_page_on_privacy_names_tests_that_are_there() -> None:
    root = Path(__file__).resolve().parents[2]
    named = {word.strip("`,") for word in PRIVACY.split() if word.strip("`,").startswith("tests/")}
    assert len(named) >= 5
    assert [each for each in sorted(named) if not (root / each).is_file()] == []
