"""Callers of the last release go on: what is served only adds to `openapi.released.json`, or its version says so."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from tests.contract.test_api_document import DOCUMENT
from tests.support.compatibility import breaks

RELEASED: Final = json.loads(Path(__file__).with_name("openapi.released.json").read_text(encoding="utf-8"))
SEGMENT: Final = "/customers/{customer_id}/segment"


def test_what_is_served_breaks_no_caller_of_the_last_release() -> None:
    assert breaks(RELEASED, DOCUMENT) == []


def test_a_document_does_not_break_itself() -> None:
    assert breaks(DOCUMENT, DOCUMENT) == []


def schema(document: dict[str, Any], name: str) -> Any:
    return document["components"]["schemas"][name]


def parameter(document: dict[str, Any], path: str, name: str) -> Any:
    return next(each for each in document["paths"][path]["get"]["parameters"] if each["name"] == name)


Change = Callable[[dict[str, Any]], Any]
BREAKS: Final[dict[str, tuple[Change, str]]] = {
    "an operation goes": (lambda d: d["paths"].pop("/tiers"), "GET /tiers: gone"),
    "a scope": (lambda d: d["paths"]["/tiers"]["get"].update(security=[{"apiKey": ["admin"]}]), "another scope"),
    "a parameter goes": (lambda d: d["paths"][SEGMENT]["get"]["parameters"].pop(), "parameter gone"),
    "a parameter is required": (
        lambda d: parameter(d, "/regions", "limit").update(required=True),
        "limit: parameter has become required",
    ),
    "a new one is required": (
        lambda d: d["paths"]["/tiers"]["get"].update(
            parameters=[{"in": "query", "name": "x", "required": True, "schema": {}}]
        ),
        "x: parameter has become required",
    ),
    "a limit is narrower": (
        lambda d: parameter(d, "/regions", "limit")["schema"].update(maximum=10),
        "maximum is 10 and was 1000",
    ),
    "a value is refused": (
        lambda d: schema(d, "Tier")["enum"].remove("C"),
        "C is not taken any more",
    ),
    "a member of an answer goes": (lambda d: schema(d, "SegmentAnswer")["properties"].pop("risk"), ".risk: gone"),
    "a member may be missing": (lambda d: schema(d, "SegmentAnswer")["required"].remove("risk"), "may be missing now"),
    "a member may be null": (
        lambda d: schema(d, "SegmentAnswer")["properties"].update(
            lifecycle={"anyOf": [{"type": "string"}, {"type": "null"}]}
        ),
        ".lifecycle: null was not to be expected",
    ),
    "a member has another type": (
        lambda d: schema(d, "SegmentAnswer")["properties"]["stale"].update(type="string"),
        ".stale: string was not to be expected",
    ),
    "deep inside": (lambda d: schema(d, "NamedPart")["properties"].pop("code"), ".code: gone"),
    "a member of a request is required": (
        lambda d: schema(d, "OrderQuestion")["required"].append("promised_at"),
        "promised_at: has become required",
    ),
    "a media type goes": (
        lambda d: d["paths"]["/customers"]["get"]["responses"]["200"]["content"].pop("text/csv"),
        "text/csv gone",
    ),
    "an answer goes": (lambda d: d["paths"][SEGMENT]["get"]["responses"].pop("304"), "304 gone"),
    "deprecated in silence": (
        lambda d: d["paths"]["/tiers"]["get"].update(deprecated=True),
        "does not document deprecation, link, sunset",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_breaks_a_caller_is_seen(name: str) -> None:
    change, said = BREAKS[name]
    changed = copy.deepcopy(DOCUMENT)
    change(changed)
    assert any(said in each for each in breaks(DOCUMENT, changed)), breaks(DOCUMENT, changed)


ADDITIONS: Final[dict[str, Change]] = {
    "an operation": lambda d: d["paths"].update({"/new": {"get": {"responses": {}, "security": []}}}),
    "an optional parameter": lambda d: d["paths"]["/tiers"]["get"].update(
        parameters=[{"in": "query", "name": "x", "required": False, "schema": {"type": "string"}}]
    ),
    "a member of an answer": lambda d: schema(d, "SegmentAnswer")["properties"].update(more={"type": "string"}),
    "an optional member of a request": lambda d: schema(d, "OrderQuestion")["properties"].update(x={"type": "string"}),
    "a wider limit": lambda d: parameter(d, "/regions", "limit")["schema"].update(maximum=5_000),
    "a media type": lambda d: d["paths"]["/tiers"]["get"]["responses"]["200"]["content"].update({"text/csv": {}}),
    "a value more": lambda d: schema(d, "Tier")["enum"].append("D"),
    "other words": lambda d: schema(d, "SegmentAnswer")["properties"]["lifecycle"].update(description="Else."),
    "a deprecation that is announced": lambda d: (
        d["paths"]["/tiers"]["get"]["responses"]["200"].update(headers={"Deprecation": {}, "Sunset": {}, "Link": {}})
        or d["paths"]["/tiers"]["get"].update(deprecated=True)
    ),
}


@pytest.mark.parametrize("name", ADDITIONS)
def test_what_is_only_added_is_no_break(name: str) -> None:
    changed = copy.deepcopy(DOCUMENT)
    ADDITIONS[name](changed)
    assert changed != DOCUMENT
    assert breaks(DOCUMENT, changed) == []


@pytest.mark.parametrize(("version", "may"), [("0.1.1", False), ("0.2.0", True), ("1.0.0", True)])
def test_a_new_version_may_take_away(version: str, may: bool) -> None:
    changed = copy.deepcopy(DOCUMENT)
    changed["info"]["version"] = version
    del changed["paths"]["/tiers"]
    assert (breaks(DOCUMENT | {"info": {"version": "0.1.0"}}, changed) == []) is may


def test_from_the_first_version_on_only_the_first_number_counts() -> None:
    changed = copy.deepcopy(DOCUMENT)
    changed["info"]["version"] = "1.1.0"
    del changed["paths"]["/tiers"]
    assert breaks(DOCUMENT | {"info": {"version": "1.0.3"}}, changed) == ["GET /tiers: gone"]
