"""Where a customer stands, as the API answers it."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from importlib import resources

import pytest
from msgspec import structs

from segment_api import presenting
from segmentation import policy as policies
from segmentation.answers import Answer, Answers
from segmentation.assessment import Facets, Snapshot
from segmentation.fields import CustomerId
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
