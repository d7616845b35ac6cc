"""The campaign's load: from the seed alone, with everything in it, and conflicts in a certain order."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import islice

import pytest
from chaos.load import ERASED, RATES, Placed, Traffic
from tests.support.oracle import Message, Oracle, Setting

from local_stack.topics import Topics

TOPICS = Topics.of({})
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def load(seed: int, count: int) -> list[Placed]:
    return list(islice(Traffic(seed, TOPICS, 4), count))


def judged(messages: list[Message]) -> Counter[str]:
    oracle = Oracle(Setting(rates=RATES))
    oracle.erased.update(ERASED)
    verdicts = [oracle.read(message, now=NOW) for message in messages]
    return Counter(reason or outcome for outcome, reason in verdicts)


def test_the_same_seed_gives_the_same_messages() -> None:
    assert load(5, 2_000) == load(5, 2_000)
    assert load(5, 2_000) != load(6, 2_000)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_outcome_and_reason_is_met_and_few_are_rejected(seed: int) -> None:
    found = judged([placed.message for placed in load(seed, 8_000)])
    assert set(found) == {
        "applied", "duplicate", "suppressed", "conflicting_duplicate", "empty", "too_large", "invalid_json", "schema",
        "unknown_type", "too_old", "future", "unknown_currency",
    }  # fmt: skip
    assert found["applied"] > 0.8 * found.total()


def test_every_partition_of_every_topic_is_met_and_some_messages_have_no_key() -> None:
    sent = load(1, 4_000)
    assert {(placed.topic, placed.partition) for placed in sent} == {
        (topic, number) for topic in TOPICS.inputs for number in range(4)
    }
    assert any(placed.key is None for placed in sent)


@pytest.mark.parametrize("seed", range(1, 6))
def test_the_outcomes_do_not_depend_on_which_partition_is_read_first(seed: int) -> None:
    sent = load(seed, 3_000)
    places = sorted({(placed.topic, placed.partition) for placed in sent})
    orders = [sent]
    for order in (places, places[::-1]):
        orders.append([placed for place in order for placed in sent if (placed.topic, placed.partition) == place])
    first, *others = (judged([placed.message for placed in order]) for order in orders)
    assert others == [first] * len(others)
