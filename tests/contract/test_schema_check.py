"""The check of JSON by its schema bites: what does not fit is named, and no keyword passes unread."""

import json
from typing import Final

import pytest
from tests.support.api import misfits

_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "day": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        "names": {"type": "array", "items": {"$ref": "#/names/Name"}, "maxItems": 2},
        "counts": {"type": "object", "additionalProperties": {"type": "number"}},
    },
    "required": ["id", "day"],
}
_NAMES: Final = {"names": {"Name": {"type": "string", "enum": ["a", "b"]}}}


@pytest.mark.parametrize(
    "fitting",
    [
        '{"id": 1, "day": null}',
        '{"id": 7, "day": "2026-01-01", "names": ["b", "a"], "counts": {"x": 1, "y": 0.5}}',
    ],
)
def test_a_value_as_its_schema_says_has_no_misfits(fitting: str) -> None:
    assert list(misfits(json.loads(fitting), _SCHEMA, _NAMES)) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("[]", "$: [] is no object"),
        ('{"day": null}', "$.id: missing"),
        ('{"id": true, "day": null}', "$.id: True is no integer"),
        ('{"id": 0, "day": null}', "$.id: 0 is beyond 1"),
        ('{"id": 1, "day": "today"}', "$.day: 'today' is none of 2 choices"),
        ('{"id": 1, "day": null, "names": ["c"]}', "$.names[0]: 'c' is none of ['a', 'b']"),
        ('{"id": 1, "day": null, "names": ["a", "a", "a"]}', "$.names: ['a', 'a', 'a'] is beyond 2"),
        ('{"id": 1, "day": null, "counts": {"x": "1"}}', "$.counts.x: '1' is no number"),
        ('{"id": 1, "day": null, "more": 1}', "$.more: not in the document"),
    ],
)
def test_a_value_that_is_otherwise_has_its_misfit_named(wrong: str, said: str) -> None:
    assert list(misfits(json.loads(wrong), _SCHEMA, _NAMES)) == [said]


def test_a_keyword_that_nobody_checks_is_a_misfit() -> None:
    assert list(misfits(1, {"multipleOf": 2}, {})) == ["$: nobody checks the keyword multipleOf"]
