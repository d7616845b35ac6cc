"""What is documented is what is so: every example is decoded, every name is explained."""

import dataclasses
import enum
import importlib
import pkgutil
import re
from pathlib import Path

import msgspec
import pytest

import segmentation
from segmentation.events import (
    MAX_EVENT_ID,
    MAX_MESSAGE_BYTES,
    MAX_ORDER_ID,
    TYPE_NAMES,
    ComplaintRaised,
    FeedbackGiven,
    Reject,
    RejectReason,
    decode,
)
from segmentation.json_values import MAX_DEPTH
from segmentation.money import parse_rates
from segmentation.outcomes import FUTURE_SECONDS, Outcome

DOCS = Path(__file__).resolve().parents[2] / "docs"
EVENTS = (DOCS / "events.md").read_text()
GLOSSARY = (DOCS / "glossary.md").read_text()
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str, tuple[tuple[str, bytes], ...]]]:
    """Language, text, and for a JSON block the headers given right before it."""
    found: list[tuple[str, str, tuple[tuple[str, bytes], ...]]] = []
    headers: tuple[tuple[str, bytes], ...] = ()
    for match in _BLOCK.finditer(EVENTS):
        language, text = match.groups()
        if language == "headers":
            pairs = (line.split(": ", 1) for line in text.strip().splitlines())
            headers = tuple((name, value.encode()) for name, value in pairs)
            continue
        found.append((language, text, headers))
        headers = ()
    return found


def examples() -> list[tuple[str, tuple[tuple[str, bytes], ...]]]:
    return [(text, headers) for language, text, headers in blocks() if language == "json"]


@pytest.mark.parametrize("number", range(len(examples())))
def test_every_example_of_an_event_is_one(number):
    text, headers = examples()[number]
    event = decode(text.encode(), headers)
    assert not isinstance(event, Reject), event.sentence
    assert event.customer_id == "C-1042"


def test_every_type_has_an_example_and_a_chapter():
    kinds = {type(decode(text.encode(), headers)) for text, headers in examples() if not headers}
    assert kinds == set(TYPE_NAMES)
    for name in TYPE_NAMES.values():
        assert f"\n### `{name}`\n" in EVENTS


def test_both_modes_of_cloud_events_have_an_example():
    assert [type(decode(t.encode(), h)) for t, h in examples() if '"specversion"' in t] == [ComplaintRaised]
    assert [type(decode(t.encode(), h)) for t, h in examples() if h] == [FeedbackGiven]


def test_every_reason_and_outcome_is_documented_in_the_order_of_the_tests():
    reasons = re.findall(r"^\| `(\w+)` \|", EVENTS.partition("| reason |")[2].partition("\n\n")[0], re.MULTILINE)
    assert reasons == list(RejectReason)
    outcomes = re.findall(r"^\| `(\w+)` \|", EVENTS.partition("| outcome |")[2].partition("\n\n")[0], re.MULTILINE)
    assert outcomes == list(Outcome)


def test_every_limit_is_the_codes():
    for limit in (f"{MAX_MESSAGE_BYTES:,} bytes", f"1 to {MAX_EVENT_ID}", f"1 to {MAX_ORDER_ID}"):
        assert limit in EVENTS
    for limit in (f"{MAX_DEPTH} levels", f"{FUTURE_SECONDS} s"):
        assert limit in EVENTS


FIELDS = """
    event_id type customer_id occurred_at order_id amount currency ordered_at cost items parcels weight_kg services
    promised_at delivered_at region channel reason picked_up_at exception category severity text score kind name
    subject_type industry account_manager needs basic expected latent contract_type contract_end attributes retracts
"""


def test_every_field_is_documented():
    for name in FIELDS.split():
        assert f"`{name}`" in EVENTS, name


def test_the_example_of_rates_can_be_loaded():
    (rates,) = [text for language, text, _ in blocks() if language == "csv"]
    assert len(parse_rates(rates.splitlines(), base_currency="CNY")) == 3


def public_values() -> set[str]:
    """The dataclasses, structs, enumerations and named tuples of the domain, storage's own rows left out."""
    found: set[str] = set()
    for module in pkgutil.iter_modules(segmentation.__path__, "segmentation."):
        if module.ispkg:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if name.startswith("_") or not isinstance(value, type) or value.__module__ != module.name:
                continue
            named_tuple = issubclass(value, tuple) and hasattr(value, "_fields")
            if dataclasses.is_dataclass(value) or issubclass(value, (enum.Enum, msgspec.Struct)) or named_tuple:
                found.add(name)
    return found


def test_every_public_value_is_in_the_glossary():
    names = public_values()
    assert len(names) > 30
    assert {name for name in names if not re.search(rf"`{name}`", GLOSSARY)} == set()


def test_every_word_of_the_glossary_has_its_chinese_term_and_a_meaning():
    rows = [line for line in GLOSSARY.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    words = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    for cells in words:
        assert len(cells) == 4, cells
        if cells[0] in ("word", "verb"):
            continue
        assert re.search(r"[\u4e00-\u9fff]", cells[1]), cells[0]
        assert cells[3].endswith("."), cells[0]


def test_no_word_is_explained_twice():
    words = [line.split("|")[1].strip() for line in GLOSSARY.splitlines() if line.startswith("| ")]
    words = [word for word in words if word not in ("word", "verb", "---")]
    assert sorted(set(words)) == sorted(words)
