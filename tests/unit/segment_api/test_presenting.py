"""From what the ledger knows to what the API answers."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from importlib import resources

import pytest
from msgspec import structs

from segment_api import presenting
from segmentation import policy as policies
from segmentation.answers import Answer, Answers, IngestStatus, PartitionStatus, TierOverview, TierShare
from segmentation.assessment import Facets, Snapshot
from segmentation.fields import CustomerId
from segmentation.ledger import DeadLetter, Halt
from segmentation.outcomes import Outcome, Partition
from segmentation.policy import Reason
from segmentation.segments import Lifecycle
from segmentation.tiering import Tier, TierHistory

POLICY = policies.parse(
    resources.files("segmentation").joinpath("policies/default.toml").read_text(encoding="utf-8"), version=3
)
DAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 8, 15, 30, 120_999, tzinfo=UTC)
SNAPSHOT = Snapshot(
    customer_id=CustomerId("C-1"),
    as_of=DAY,
    due_on=date(2026, 12, 1),
    value=100,
    history=TierHistory(Tier.B, DAY),
    tier=Tier.B,
    tier_since=date(2026, 6, 14),
    lifecycle=Lifecycle.ACTIVE,
    segment="core",
    segment_since=date(2026, 10, 2),
    segment_reasons=(),
    service_level="stable",
    service_reasons=(Reason("tier", "B"), Reason("return_rate_90d", "0.1", "< 0.25")),
    policy_version=3,
    updated_at=NOW,
)
ANSWER = Answer(DAY, SNAPSHOT, POLICY, stale=False)


# --- segments -------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_told_part_by_part() -> None:
    shown = presenting.present_segment(ANSWER, "en").model_dump(mode="json")
    assert shown["customer_id"] == "C-1"
    assert shown["segment"] == {
        "code": "core",
        "name": "Core customer",
        "since": "2026-10-02",
        "source": "rules",
        "confidence": None,
    }
    assert shown["tier"]["since"] == "2026-06-14"
    assert shown["versions"] == {"policy": 3, "model": None}
    assert shown["recommended_service_level"]["reasons"] == ["tier B", "return_rate_90d 0.1 (< 0.25)"]


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (NOW, "2026-11-22T08:15:30.120Z"),
        (NOW.replace(microsecond=0), "2026-11-22T08:15:30.000Z"),
        (NOW.replace(microsecond=999_999), "2026-11-22T08:15:30.999Z"),
        (NOW.astimezone(timezone(timedelta(hours=8))), "2026-11-22T08:15:30.120Z"),
    ],
)
def test_moments_are_in_utc_with_milliseconds(moment: datetime, shown: str) -> None:
    answer = replace(ANSWER, snapshot=structs.replace(SNAPSHOT, updated_at=moment))
    assert presenting.present_segment(answer, "en").model_dump(mode="json")["updated_at"] == shown


def test_the_day_of_an_answer_is_not_that_of_its_snapshot() -> None:
    """A snapshot of last week still stands; the answer is of today."""
    answer = replace(ANSWER, as_of=date(2026, 11, 29))
    assert presenting.present_segment(answer, "en").as_of == date(2026, 11, 29)


@pytest.mark.parametrize("level", ["high", "medium", "low"])
def test_the_value_level_is_the_snapshots(level: str) -> None:
    answer = replace(ANSWER, snapshot=structs.replace(SNAPSHOT, facets=Facets(value_level=level)))
    assert presenting.present_segment(answer, "en").value_level == level


def test_a_demotion_under_way_has_its_day() -> None:
    """The last day that closed with A, and fifteen more."""
    history = TierHistory(Tier.C, DAY, closed_a=date(2026, 11, 21))
    answer = replace(ANSWER, snapshot=structs.replace(SNAPSHOT, history=history, tier=Tier.A))
    shown = presenting.present_segment(answer, "en").tier
    assert (shown.effective, shown.computed, shown.demotion_due) == ("A", "C", date(2026, 12, 6))


def test_many_are_in_the_order_asked_for_each_once() -> None:
    ids = [CustomerId("a"), CustomerId("b")]
    others = {each: replace(ANSWER, snapshot=structs.replace(SNAPSHOT, customer_id=each)) for each in ids}
    answers = Answers(DAY, others, POLICY)
    shown = presenting.present_segments(answers, ["b", "?", "a", "b", "?", "c"], "en")
    assert [each.customer_id for each in shown.customers] == ["b", "a"]
    assert [each.customer_id for each in shown.unknown] == ["?", "c"]
    assert {each.recommended_service_level.code for each in shown.unknown} == {POLICY.default_level}


@pytest.mark.parametrize(
    ("language", "name", "reasons"), [("en", "Welcome", ["unknown customer"]), ("zh", "欢迎服务", ["未知客户"])]
)
def test_the_unknown_are_spoken_of_in_the_language_asked_for(language: str, name: str, reasons: list[str]) -> None:
    (shown,) = presenting.present_segments(Answers(None, {}, POLICY), ["x"], language).unknown
    assert (shown.recommended_service_level.name, shown.recommended_service_level.reasons) == (name, reasons)


# --- tiers ----------------------------------------------------------------------------------------------------------

OVERVIEW = TierOverview(
    as_of=DAY,
    basis="net_revenue",
    total=10**20,
    cutoffs={"A": (10**20 - 1, CustomerId("C-1")), "B": None},
    tiers=[TierShare("A", 1, 10**20 - 1), TierShare("B", 0, 0), TierShare("C", 1, 1), TierShare("unrated", 2, -7)],
    pareto=[(0.0, 0.0), (1.0, 1.0)],
)


def test_amounts_of_the_ranking_keep_every_digit() -> None:
    shown = presenting.present_tiers(OVERVIEW, 2)
    assert shown.total == "1000000000000000000.00"
    last_in_a = shown.cutoffs["A"]
    assert last_in_a is not None
    assert (last_in_a.net_revenue, last_in_a.customer_id) == ("999999999999999999.99", "C-1")
    assert shown.cutoffs["B"] is None
    assert [part.net_revenue for part in shown.tiers] == ["999999999999999999.99", "0.00", "0.01", "-0.07"]
    assert [part.share for part in shown.tiers] == [1.0, 0.0, 1e-20, None]


def test_orders_are_counted_without_decimals() -> None:
    shown = presenting.present_tiers(replace(OVERVIEW, basis="orders", total=3), 2)
    assert (shown.total, shown.tiers[3].net_revenue) == ("3", "-7")


def test_where_nobody_is_ranked_there_are_no_shares() -> None:
    nobody = replace(OVERVIEW, total=0, tiers=[TierShare("A", 0, 0), TierShare("unrated", 2, -7)])
    assert [part.share for part in presenting.present_tiers(nobody, 2).tiers] == [None, None]


# --- ingestion ------------------------------------------------------------------------------------------------------


def a_partition(number: int, next_offset: int | None, end_offset: int | None) -> PartitionStatus:
    return PartitionStatus(Partition("logistics.orders", number), next_offset, end_offset, "worker-1")


def test_the_lag_is_the_messages_not_read_over_all_partitions() -> None:
    """A partition claimed and never read, one behind, one whose end is not known yet."""
    status = IngestStatus(
        as_of=DAY,
        partitions=[
            a_partition(0, None, 5),
            a_partition(1, 7, 10),
            a_partition(2, 4, None),
            a_partition(3, None, None),
        ],
        workers=[],
        events=dict.fromkeys(Outcome, 0) | {Outcome.APPLIED: 2**40},
        customers=0,
        tiers_as_of=None,
        tiers_current=False,
        last_applied_at=None,
    )
    shown = presenting.present_status(status, "event")
    assert [(each.next_offset, each.end_offset, each.lag) for each in shown.partitions] == [
        (0, 5, 5),
        (7, 10, 3),
        (4, 4, 0),
        (0, 0, 0),
    ]
    assert (shown.clock, shown.lag, shown.events.applied, shown.last_applied_at) == ("event", 8, 2**40, None)


def test_a_halted_partition_says_since_when_why_and_what_to_do() -> None:
    halt = Halt(datetime(2026, 3, 1, 12, tzinfo=UTC), 9, "500 messages in a row were rejected", {"schema": 500})
    partition = PartitionStatus(Partition("logistics.orders", 3), 10, 90, "worker-1", halt)
    status = IngestStatus(
        DAY, [partition], [], dict.fromkeys(Outcome, 0), 0, None, tiers_current=False, last_applied_at=None
    )
    (shown,) = presenting.present_status(status, "event").partitions
    assert shown.model_dump(mode="json")["halted"] == {
        "at": "2026-03-01T12:00:00.000Z",
        "offset": 9,
        "detail": "500 messages in a row were rejected.",
        "reasons": {"schema": 500},
        "remedy": "Mend what sends or reads these messages, then run `ingest-worker resume logistics.orders/3`, "
        "then replay what was rejected.",
    }


# --- dead letters ---------------------------------------------------------------------------------------------------

LETTER = DeadLetter(
    id=17,
    partition=Partition("logistics.orders", 3),
    offset=1204,
    reason="schema",
    field_name="amount",
    sentence="amount is '-5'; an amount is expected.",
    customer_id="C-1",
    event_id="e",
    recorded_at=NOW,
    replayed_as=None,
    replayed_at=None,
    value="{订".encode(),
    headers=[("trace", "AQ==")],
)


def test_a_listed_letter_has_no_bytes() -> None:
    assert presenting.present_dead_letter(LETTER).model_dump(mode="json") == {
        "id": 17,
        "reason": "schema",
        "field": "amount",
        "detail": "amount is '-5'; an amount is expected.",
        "topic": "logistics.orders",
        "partition": 3,
        "offset": 1204,
        "customer_id": "C-1",
        "event_id": "e",
        "recorded_at": "2026-11-22T08:15:30.120Z",
        "replayed_as": None,
        "replayed_at": None,
    }


@pytest.mark.parametrize(
    ("value", "in_base64", "text"),
    [("{订".encode(), "e+iuog==", "{订"), (b"\xff", "/w==", None), (b"", "", ""), (None, None, None)],
)
def test_a_letter_opened_has_its_bytes_and_their_text_where_they_are_text(
    value: bytes | None, in_base64: str | None, text: str | None
) -> None:
    shown = presenting.present_dead_letter_detail(replace(LETTER, value=value))
    assert (shown.value_base64, shown.value_text) == (in_base64, text)
    assert shown.headers == [{"name": "trace", "value_base64": "AQ=="}]


@pytest.mark.parametrize("field_name", ["", None])
def test_a_reject_about_no_field_names_none(field_name: str | None) -> None:
    assert presenting.present_dead_letter(replace(LETTER, field_name=field_name)).field is None
