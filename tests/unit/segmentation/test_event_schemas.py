"""The schemas of events say what the decoder does: every field, with values at and beyond each limit."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator

from segmentation.event_schemas import (
    CUSTOMER_ID_PATTERN,
    EXAMPLES,
    TITLES,
    UNSAID,
    data_schema,
    envelope_schema,
    event_schema,
)
from segmentation.events import TYPE_NAMES, Reject, decode
from segmentation.fields import read_customer_id

TYPES: Final = sorted(TYPE_NAMES.values())
DOCUMENTED: Final = (Path(__file__).resolve().parents[3] / "docs" / "events.md").read_text(encoding="utf-8")
ABSENT: Final = object()
NUL: Final = "a\x00b"
NUMBERS: Final = (
    *(0, 1, -1, 5, 6, 10, 11, 10**9, 10**9 + 1, 10**12 - 1, 10**12, -0.5, 0.5, 1.0, 2.5, 9.999, 10.001, 48.25),
)
TEXTS: Final = (
    *("", "x", "é" * 64, "x" * 65, "😀" * 128, "x" * 129, NUL, "a b", "-x", "x-", "A:b.c_d-9", "line\nline"),
    *("CNY", "cny", "CNYX", "CN", "nps", "NPS", "company", "pharma", "express", "true"),
    *("0", "1280.50", "12.", ".5", "-1", "+1", "1e2", " 1", "9" * 12, "9" * 13, "0.123456789", "0.1234567890"),
    *("2026-03-01", "2026-3-1", "2026-13-01", "2026-03-32", "2026-00-01", "20260301", "2026-03-01T00:00:00Z"),
    *("2026-03-01t23:59:59.123456789z", "2026-03-01T00:00:00.1234567890Z", "2026-03-01T00:00:00+08:00"),
    *("2026-03-01T00:00:00", "2026-03-01 00:00:00Z", "2026-03-01T24:00:00Z", "2026-03-01T00:00:60Z"),
    *("2026-03-01T00:00:00+0800", "2026-03-01T00:00:00+24:00", "2026-13-01T00:00:00Z", "2026-03-01T00:00Z"),
)
OTHERS: Final[tuple[Any, ...]] = (
    *(None, True, False, [], ["a"], ["a", ""], [1], [None], [NUL], [["a"]], {}),
    *({"basic": ["x"], "expected": [], "latent": None}, {"basic": "x"}, {"latent": [1]}, {"expected": [NUL]}),
    *({"k": "v", "": ""}, {"k": None}, {"k": 1}, {"k": NUL}, {NUL: "v"}, {"k": ["v"]}, {"k": {}}),
)
POOL: Final = (ABSENT, *NUMBERS, *TEXTS, *OTHERS)


def example(type_name: str) -> dict[str, Any]:
    """In a currency whose decimals nobody knows: those are what no schema can say."""
    found = copy.deepcopy(dict(EXAMPLES[type_name]))
    return found | ({"currency": "ZZZ"} if "currency" in found else {})


def with_field(event: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    changed = {key: each for key, each in event.items() if key != name}
    return changed if value is ABSENT else changed | {name: value}


def fits(schema: dict[str, Any], value: Any) -> bool:
    """By both drafts: what AsyncAPI reads, and what OpenAPI reads."""
    verdicts: set[bool] = {validator(schema).is_valid(value) for validator in (Draft7Validator, Draft202012Validator)}
    assert len(verdicts) == 1
    return verdicts.pop()


def decoded(message: Any, headers: tuple[tuple[str, bytes], ...] = ()) -> bool:
    return not isinstance(decode(json.dumps(message).encode(), headers), Reject)


@pytest.mark.parametrize("type_name", TYPES)
def test_every_field_is_refused_by_both_or_by_none(type_name: str) -> None:
    schema = event_schema(type_name)
    differing = [
        (name, value if value is not ABSENT else "absent")
        for name in schema["properties"]
        for value in POOL
        for event in [with_field(example(type_name), name, value)]
        if fits(schema, event) != decoded(event) and not (name == "type" and value in TYPES)
    ]
    assert differing == []


@pytest.mark.parametrize("type_name", TYPES)
def test_every_field_meets_values_that_fit_and_values_that_do_not(type_name: str) -> None:
    """Otherwise the agreement above would say little."""
    schema = event_schema(type_name)
    for name in schema["properties"]:
        verdicts = {fits(schema, with_field(example(type_name), name, value)) for value in POOL}
        assert verdicts | {fits(schema, example(type_name))} == {True, False}, name


@given(st.data(), st.sampled_from(TYPES))
def test_any_mixture_is_refused_by_both_or_by_none(data: st.DataObject, type_name: str) -> None:
    schema, event = event_schema(type_name), example(type_name)
    names = [name for name in schema["properties"] if name != "type"]
    for name in data.draw(st.lists(st.sampled_from([*names, "unknown"]), max_size=4)):
        event = with_field(event, name, data.draw(st.sampled_from(POOL)))
    assert fits(schema, event) == decoded(event)


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("attribute", ["specversion", "id", "type", "time", "subject", "data"])
def test_every_attribute_of_a_cloud_event_is_refused_by_both_or_by_none(type_name: str, attribute: str) -> None:
    event = example(type_name)
    data = {name: value for name, value in event.items() if name not in ("event_id", "type", "occurred_at")}
    for inside in (data, with_field(data, "customer_id", ABSENT), with_field(data, "customer_id", None)):
        envelope = {
            "specversion": "1.0",
            "id": event["event_id"],
            "type": f"com.example.{type_name}",
            "time": event["occurred_at"],
            "subject": "C-1042",
            "data": inside,
        }
        schema = envelope_schema(type_name)
        for value in (*POOL, "1.0", f"x.{type_name}", type_name, f"x{type_name}", {"customer_id": "C-1"}):
            changed = with_field(envelope, attribute, value)
            if attribute == "specversion" and value in (ABSENT, None):
                continue  # then it is no CloudEvent
            if attribute == "type" and isinstance(value, str) and value.rpartition(".")[2] in set(TYPES) - {type_name}:
                continue
            assert fits(schema, changed) == decoded(changed), (attribute, value)


@pytest.mark.parametrize("type_name", TYPES)
def test_the_data_of_a_cloud_event_in_binary_mode_is_refused_by_both_or_by_none(type_name: str) -> None:
    event = example(type_name)
    attributes = {
        "specversion": "1.0",
        "id": "e-1",
        "type": type_name,
        "time": "2026-03-01T00:00:00Z",
        "subject": "C-1",
    }
    headers = tuple((f"ce_{name}", value.encode()) for name, value in attributes.items())
    schema = data_schema(type_name)
    data = {name: value for name, value in event.items() if name in schema["properties"]}
    for name in schema["properties"]:
        for value in POOL:
            changed = with_field(data, name, value)
            assert fits(schema, changed) == decoded(changed, headers), (name, value)


def test_what_no_schema_can_say_is_refused_all_the_same() -> None:
    """Each of the first three, which the decoder knows; the others depend on rates and on the clock."""
    order = dict(EXAMPLES["order"])
    for changed in (
        order | {"promised_at": "2026-02-30T00:00:00Z"},
        order | {"currency": "JPY"},
        order | {"amount": 0.0000000001},
        order | {"weight_kg": 0.0001},
    ):
        assert fits(event_schema("order"), changed)
        assert not decoded(changed)
    assert len(UNSAID) == 5


def test_the_examples_are_those_of_the_page() -> None:
    shown = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", DOCUMENTED, re.MULTILINE | re.DOTALL)]
    assert [each for each in shown if "type" in each and "specversion" not in each] == list(EXAMPLES.values())
    for name, each in EXAMPLES.items():
        assert each["type"] == name
        assert fits(event_schema(name), each)
        assert decoded(each)


def test_every_type_has_a_schema_and_every_field_a_description() -> None:
    assert TITLES.keys() == EXAMPLES.keys() == set(TYPES)
    for name in TYPES:
        for schema in (event_schema(name), envelope_schema(name), data_schema(name)):
            Draft7Validator.check_schema(schema)
            Draft202012Validator.check_schema(schema)
        for field_name, field in event_schema(name)["properties"].items():
            assert field["description"].endswith("."), field_name
            assert f"`{field_name}`" in DOCUMENTED


@pytest.mark.parametrize("text", ["C", "c" * 64, "c" * 65, "", "-c", "c-", "c:d", "é", "c d", "#c", "9.a_b:c-d"])
def test_a_customer_id_is_one_by_both(text: str) -> None:
    assert bool(re.search(CUSTOMER_ID_PATTERN, text)) == (read_customer_id(text) is not None)
