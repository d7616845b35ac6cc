"""A posted body falls into the bytes of its events, exactly as they stand there."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_api.posted_rows import MOST_EVENTS, UnreadableBody, rows

JSON = "application/json"
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
separators = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")])
lists = st.lists(st.tuples(values, separators, st.booleans()).map(lambda drawn: text_of(*drawn)), max_size=6)


def text_of(value: object, separators: tuple[str, str], ascii_only: bool) -> bytes:
    return json.dumps(value, separators=separators, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


@given(lists, st.sampled_from([b"", b" ", b"\r\n\t"]))
def test_an_array_falls_into_the_bytes_between_its_commas(texts: list[bytes], white: bytes) -> None:
    body = b"[" + (white + b"," + white).join(texts) + b"]"
    if texts:
        body = b"[" + white + body[1:-1] + white + b"]"
    assert rows(white + body + white, JSON) == texts
    assert rows(b'{"events":' + white + body + white + b"}", JSON) == texts


@given(lists)
def test_lines_are_events_and_blank_ones_are_none(texts: list[bytes]) -> None:
    lines = [text.replace(b"\n", b"").replace(b"\r", b"") for text in texts]
    body = b"\r\n\r\n".join(lines) + b"\n"
    assert rows(body, "application/x-ndjson; charset=utf-8") == lines


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"[]", []),
        (b" [ ] ", []),
        (b"[1.50, 1e2,NaN]", [b"1.50", b"1e2", b"NaN"]),
        (b'[{"a":1},{"a":1],{"b":}]', [b'{"a":1}', b'{"a":1]', b'{"b":}']),
        (rb'["\\","\"]",{"\u005b":"["}]', [rb'"\\"', rb'"\"]"', rb'{"\u005b":"["}']),
        (b'{"events":[1],"note":"x","events":[2,3]}', [b"2", b"3"]),
        (rb'{"\u0065vents":[1]}', [b"1"]),
        (b"[" + b"[" * 500 + b"]" * 500 + b"]", [b"[" * 500 + b"]" * 500]),
        ('[{"name":"客户,["}]'.encode(), ['{"name":"客户,["}'.encode()]),
    ],
)
def test_what_is_between_the_commas_is_nobody_elses_business(body: bytes, events: list[bytes]) -> None:
    """Whether it is JSON at all is said of each event by itself."""
    assert rows(body, JSON) == events


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "a JSON array"),
        (b"1", "a JSON array"),
        (b"\xef\xbb\xbf[]", "a JSON array"),
        (b"{}", "put a single event into an array"),
        (b'{"event_id":"e-1","type":"complaint"}', "put a single event into an array"),
        (b'{"events":{}}', "no array"),
        (b'{"events":null}', "no array"),
        (b"[1", "never closed"),
        (b"[1}", "does not end"),
        (b"[1]]", "does not end"),
        (b"[1][2]", "does not end"),
        (b'["a]', "string at byte 1"),
        (b"[1,]", "nothing between two commas"),
        (b"[,]", "nothing between two commas"),
        (b"{1:2}", "a name and a value"),
        (b'{"\\ud800":1,"events":[]}', "lone surrogate"),
        (b'{"events"}', "a name and a value"),
        (b"[" + b",".join([b"1"] * (MOST_EVENTS + 1)) + b"]", "1,001 events are more than 1,000"),
    ],
)
def test_an_envelope_that_cannot_be_read_is_refused_as_a_whole(body: bytes, problem: str) -> None:
    with pytest.raises(UnreadableBody, match=problem):
        rows(body, JSON)


@pytest.mark.parametrize("content_type", ["", "application/json; charset=utf-8", "APPLICATION/CLOUDEVENTS-BATCH+JSON"])
def test_json_goes_by_many_names(content_type: str) -> None:
    assert rows(b"[1]", content_type) == [b"1"]


@pytest.mark.parametrize("content_type", ["text/csv", "multipart/form-data; boundary=x", "application/xml"])
def test_another_kind_of_body_is_refused_by_name(content_type: str) -> None:
    with pytest.raises(UnreadableBody, match=content_type.partition(";")[0]):
        rows(b"[1]", content_type)


def test_as_many_as_may_come_do() -> None:
    assert len(rows(b"1\n" * MOST_EVENTS, "application/x-ndjson")) == MOST_EVENTS
