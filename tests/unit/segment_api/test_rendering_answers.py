"""What goes over the wire is what the document is made of: the same values, in the same order, in every form."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from segment_api import negotiating, paging, presenting, rendering
from segment_api.problems import ProblemAnswer
from segmentation import policy as policies
from segmentation.answers import Answer, Answers
from segmentation.assessment import Facets, Snapshot
from segmentation.fields import CustomerId
from segmentation.overrides import Override
from segmentation.policy import Reason
from segmentation.segments import Lifecycle
from segmentation.tiering import Tier, TierHistory

TEXT = resources.files("segmentation").joinpath("policies/default.toml").read_text(encoding="utf-8")
POLICY = policies.parse(TEXT, version=3)
OTHER = policies.parse(TEXT.replace("Strategic partner", "Friend"), version=3)
DAY = date(2026, 11, 22)

days = st.dates(date(2026, 1, 1), date(2027, 12, 31))
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
reasons = st.lists(st.builds(Reason, st.sampled_from(("tier", "lifecycle", "made_up")), words, words), max_size=2).map(
    tuple
)
overrides = st.none() | st.builds(
    Override,
    tier=st.none() | st.sampled_from(Tier),
    service_level=st.none() | st.sampled_from(sorted(POLICY.service_levels)),
    reason=words,
    author=words,
    expires_on=days,
    set_at=st.datetimes(timezones=st.just(UTC)),
)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    closed = st.none() | days
    snapshot = Snapshot(
        customer_id=draw(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._:-]{0,9}\Z").map(CustomerId)),
        as_of=draw(days),
        due_on=date(2028, 1, 1),
        value=1,
        history=TierHistory(draw(st.sampled_from(Tier)), draw(closed), draw(closed), draw(closed), draw(closed)),
        tier=draw(st.sampled_from(Tier)),
        tier_since=draw(days),
        lifecycle=draw(st.sampled_from(Lifecycle)),
        segment=draw(st.sampled_from(sorted(POLICY.segments))),
        segment_since=draw(days),
        segment_reasons=draw(reasons),
        service_level=draw(st.sampled_from(sorted(POLICY.service_levels))),
        service_reasons=draw(reasons),
        policy_version=3,
        updated_at=draw(st.datetimes(timezones=st.just(UTC))),
        override=draw(overrides),
        facets=Facets(value_level=draw(st.sampled_from(("high", "medium", "low"))), known=draw(st.integers(0, 9))),
        additions=tuple((each.code, draw(reasons)) for each in POLICY.additions if draw(st.booleans())),
    )
    return Answer(draw(days), snapshot, draw(st.sampled_from((POLICY, OTHER))), draw(st.booleans()))


languages = st.sampled_from(("en", "zh"))


@given(answers(), languages)
def test_the_bytes_of_an_answer_are_those_of_its_schema(answer: Answer, language: str) -> None:
    """What pydantic writes of the model that the document is made of, member after member."""
    shown = json.loads(rendering.segment_bytes(answer, language))
    assert json.dumps(shown) == json.dumps(presenting.present_segment(answer, language).model_dump(mode="json"))


@given(st.lists(answers(), max_size=4), st.lists(st.sampled_from(("?", "a b", "nobody", "é")), max_size=3), languages)
def test_a_bulk_answer_is_that_of_its_schema(some: list[Answer], unknown: list[str], language: str) -> None:
    known = {each.snapshot.customer_id: each for each in some}
    found = Answers(DAY, known, POLICY)
    asked = [*known, *unknown, *known]
    bodies, wanted = rendering.Found.of(found, language), dict.fromkeys(asked)
    body = rendering.segments_body(bodies, wanted, language)
    assert json.loads(body) == presenting.present_segments(found, asked, language).model_dump(mode="json")
    lines = [json.loads(line) for line in rendering.segments_lines(bodies, wanted, language).splitlines()]
    assert [each["customer_id"] for each in lines] == list(dict.fromkeys(asked))


def test_nothing_is_kept_from_one_policy_to_another_of_the_same_number() -> None:
    """As in a dry run, or in tests: what is made once belongs to the object, not to its version."""
    text = TEXT.replace("dispatch_priority = 95", "dispatch_priority = 96")
    assert text != TEXT
    snapshot = Snapshot(
        customer_id=CustomerId("a"),
        as_of=DAY,
        due_on=DAY,
        value=None,
        history=TierHistory(),
        tier=Tier.A,
        tier_since=DAY,
        lifecycle=Lifecycle.NEW,
        segment="strategic",
        segment_since=DAY,
        segment_reasons=(),
        service_level="vip",
        service_reasons=(),
        policy_version=3,
        updated_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    answer = Answer(DAY, snapshot, POLICY, stale=False)
    other = replace(answer, policy=policies.parse(text, version=3))
    found = [json.loads(rendering.segment_bytes(each, "en")) for each in (answer, other, answer)]
    assert [each["recommended_service_level"]["dispatch_priority"] for each in found] == [95, 96, 95]
    with_reason = replace(answer, snapshot=structs.replace(snapshot, service_reasons=(Reason("tier", "A"),)))
    assert json.loads(rendering.segment_bytes(with_reason, "zh"))["recommended_service_level"]["reasons"] == ["等级 A"]


# --- cursors --------------------------------------------------------------------------------------------------------


@given(words, words)
def test_a_cursor_leads_back_to_its_place(place: str, question: str) -> None:
    cursor = paging.cursor_after(place, question)
    assert cursor.isascii()
    assert paging.place_of(cursor, question) == place


@given(words, words, st.data())
def test_no_altered_cursor_is_taken(place: str, question: str, data: st.DataObject) -> None:
    cursor = paging.cursor_after(place, question)
    at = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=300).filter(lambda each: each != cursor[at]))
    for wrong in (cursor[:at] + other + cursor[at + 1 :], cursor[:at]):
        with pytest.raises(ProblemAnswer) as refused:
            paging.place_of(wrong, question)
        assert refused.value.status == 422


@given(words, words, words)
def test_no_cursor_is_taken_for_another_question(place: str, question: str, other: str) -> None:
    if question != other:
        with pytest.raises(ProblemAnswer, match="other filters"):
            paging.place_of(paging.cursor_after(place, question), other)


# --- forms ----------------------------------------------------------------------------------------------------------


@given(st.text(max_size=40))
def test_no_header_is_too_strange_to_choose_by(accept: str) -> None:
    offered = ("application/json", "text/csv")
    assert negotiating.choose_media_type(accept, offered) in offered


@pytest.mark.parametrize(
    ("content_type", "media_type"),
    [(None, ""), ("Application/X-NDJSON; charset=utf-8", "application/x-ndjson"), (";", "")],
)
def test_the_media_type_of_a_body_is_without_its_parameters(content_type: str | None, media_type: str) -> None:
    assert negotiating.media_type_of(content_type) == media_type
