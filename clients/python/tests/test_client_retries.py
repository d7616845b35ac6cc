"""When a call is made again, how long is waited, and what an answer that nobody expected becomes."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from clients.python.tests.conftest import Kind

import tierline
from tierline.core import Conversations, Memory, Send, Wait

SEGMENT = json.loads(
    """{"customer_id": "C-1", "as_of": "2026-11-22", "lifecycle": "active", "value_tier": "A", "value_level": "high",
    "segment": {"code": "core", "name": "Core", "since": "2026-10-02", "source": "rules", "confidence": null},
    "tier": {"effective": "A", "computed": "A", "since": "2026-06-14", "demotion_due": null, "override": null},
    "risk": {"churn_probability": 0.08, "warning": false}, "stale": false, "versions": {"policy": 3, "model": null},
    "recommended_service_level": {"code": "vip", "name": "VIP", "dispatch_priority": 95, "actions": [], "reasons": [],
      "description": "", "response_hours": 1, "complaint_hours": 4, "delivery_commitment": null, "channel": null,
      "dedicated_manager": true, "callback_days": null, "review_days": null, "survey_days": null, "offers": [],
      "playbooks": [], "retention_level": null, "owner": null}, "updated_at": "2026-11-22T08:15:30.120Z"}"""
)
REFUSED = httpx.ConnectError("refused")


def talks(**options: Any) -> Conversations:
    given: dict[str, Any] = {
        "language": None,
        "retries": tierline.Retries(),
        "remember": 10,
        "stale_if_away": False,
    } | options
    return Conversations(**given)


def answer(status: int = 200, body: Any = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.Response(status, content=content, headers=named, request=httpx.Request("GET", "http://tierline/x"))


def problem(status: int, **headers: str) -> httpx.Response:
    return answer(status, {"status": status, "title": "No", "detail": "It is so."}, **headers)


def held(talk: Any, *replies: httpx.Response | httpx.TransportError) -> tuple[Any, list[Send], list[float]]:
    """The result or the error of a conversation, what was sent, and what was waited."""
    sent, waits = [], []
    remaining = list(replies)
    try:
        step = next(talk)
        while True:
            if isinstance(step, Wait):
                waits.append(step.seconds)
                step = talk.send(None)
            else:
                sent.append(step)
                step = talk.send(remaining.pop(0))
    except StopIteration as done:
        return done.value, sent, waits
    except tierline.TierlineError as error:
        return error, sent, waits


@pytest.mark.parametrize("failure", [REFUSED, httpx.ReadTimeout("slow"), problem(503), problem(502), problem(429)])
def test_what_may_pass_is_tried_again(failure: Any) -> None:
    result, sent, waits = held(talks().segment("C-1"), failure, failure, answer(body=SEGMENT))
    assert result.value_tier == "A"
    assert (len(sent), len(waits)) == (3, 2)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500])
def test_what_stays_so_is_not(status: int) -> None:
    error, sent, _ = held(talks().segment("C-1"), problem(status))
    assert isinstance(error, tierline.Problem)
    assert (error.status, error.detail, len(sent)) == (status, "It is so.", 1)


def test_there_is_an_end_to_tries_and_waits_grow_up_to_a_bound() -> None:
    patient = tierline.Retries(tries=8, first_seconds=1.0, longest_seconds=5.0)
    for _ in range(50):
        error, sent, waits = held(talks(retries=patient).tiers(), *[REFUSED] * 8)
        assert isinstance(error, tierline.Unavailable)
        assert error.__cause__ is REFUSED
        assert len(sent) == 8
        assert all(wait <= most for wait, most in zip(waits, [1, 2, 4, 5, 5, 5, 5], strict=True))


def test_waits_are_not_alike() -> None:
    """Or all who lost the service at once would come back at once."""
    assert len({tuple(held(talks().tiers(), *[REFUSED] * 4)[2]) for _ in range(20)}) == 20


@pytest.mark.parametrize(
    "headers",
    [{"Retry_After": "3"}, {"Retry_After": "Sun, 22 Nov 2026 08:00:03 GMT", "Date": "Sun, 22 Nov 2026 08:00:00 GMT"}],
)
def test_as_long_is_waited_as_the_service_says(headers: dict[str, str]) -> None:
    _, _, (wait,) = held(talks().segment("C-1"), problem(503, **headers), answer(body=SEGMENT))
    assert 3 <= wait <= 3.2


def test_a_wait_that_is_too_long_is_the_callers_to_decide() -> None:
    error, sent, waits = held(talks().segment("C-1"), problem(429, Retry_After="3600"))
    assert isinstance(error, tierline.TooManyRequests)
    assert (error.retry_after, len(sent), waits) == (3600, 1, [])


def test_what_might_be_done_twice_is_not_repeated() -> None:
    error, sent, _ = held(talks().request("POST", "/policies/1/activate", None, None, idempotent=None), REFUSED)
    assert isinstance(error, tierline.Unavailable)
    assert len(sent) == 1


def test_events_are_repeated_as_they_were_and_told_in_their_order() -> None:
    def outcomes(count: int) -> httpx.Response:
        row = {"event_id": "e", "outcome": "applied", "reason": None, "field": None, "detail": None}
        return answer(body={"validate_only": False, "events": [row | {"index": index} for index in range(count)]})

    events = [{"event_id": f"e{number}"} for number in range(1_001)]
    told, sent, _ = held(talks().send_events(events, validate_only=False), REFUSED, outcomes(1_000), outcomes(1))
    assert [each.index for each in told] == list(range(1_001))
    bodies = [json.loads(each.content or b"") for each in sent]
    assert bodies == [events[:1_000], events[:1_000], events[1_000:]]
    assert all(each.path == "/events" and not each.params for each in sent)


def test_bodies_of_events_stay_within_the_services_limit() -> None:
    answers = [answer(body={"validate_only": True, "events": []})] * 3
    events = [{"event_id": str(number), "text": "x" * 200_000} for number in range(50)]
    _, sent, _ = held(talks().send_events(events, validate_only=True), *answers)
    assert [len(json.loads(each.content or b"")) for each in sent] == [19, 19, 12]
    assert all(len(each.content or b"") <= 4 * 1024 * 1024 for each in sent)
    assert {each.params for each in sent} == {(("validate_only", "true"),)}


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"customer_id": 1}', b"\xff", b""])
def test_what_is_no_answer_of_the_service_is_said_to_be_none(body: bytes) -> None:
    error, _, _ = held(talks().segment("C-1"), answer(200, body))
    assert isinstance(error, tierline.UnexpectedAnswer)


@pytest.mark.parametrize("status", [301, 404, 500])
def test_a_page_of_somebody_elses_is_no_problem_of_ours(status: int) -> None:
    error, _, _ = held(talks().segment("C-1"), answer(status, b"<html>nginx</html>"))
    assert isinstance(error, tierline.UnexpectedAnswer)
    assert str(status) in str(error)


def test_fields_and_codes_that_are_new_are_no_error() -> None:
    told = SEGMENT | {"value_tier": "A+", "unheard_of": {"x": 1}}
    assert held(talks().segment("C-1"), answer(body=told))[0].value_tier == "A+"


def test_no_more_is_remembered_than_was_allowed() -> None:
    memory = Memory(2)
    segment = held(talks().segment("C-1"), answer(body=SEGMENT))[0]
    memory.keep("a", '"1"', segment)
    memory.keep("b", '"2"', segment)
    assert memory.find("a") is not None  # so that b is the least used
    memory.keep("c", '"3"', segment)
    assert [memory.find(name) is not None for name in "abc"] == [True, False, True]


def test_an_answer_is_asked_about_by_its_tag() -> None:
    asked = talks()
    held(asked.segment("C-1"), answer(body=SEGMENT, ETag='"t"'))
    _, (sent,), _ = held(asked.segment("C-1"), answer(304, b""))
    assert sent.headers["If-None-Match"] == '"t"'
    held(asked.segment("C-1"), problem(404))
    _, (sent,), _ = held(asked.segment("C-1"), answer(body=SEGMENT))
    assert "If-None-Match" not in sent.headers


async def test_both_clients_wait_and_send_again(kind: Kind) -> None:
    replies: list[Any] = [problem(503, Retry_After="0"), REFUSED, answer(body=SEGMENT)]

    def reply(request: httpx.Request) -> httpx.Response:
        got = replies.pop(0)
        if isinstance(got, httpx.TransportError):
            raise got
        assert isinstance(got, httpx.Response)
        return got

    client = kind.client(
        "http://tierline", transport=httpx.MockTransport(reply), retries=tierline.Retries(first_seconds=0.001)
    )
    assert (await kind.ask(lambda: client.segment("C-1"))).customer_id == "C-1"
    assert replies == []
    await kind.close(client)
