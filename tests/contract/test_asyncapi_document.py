"""The AsyncAPI document: the stored one is the one served, it is AsyncAPI 3.0, and messages as produced keep to it."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.api import client_of, everything_in
from tests.support.histories import NOW
from tests.support.oracle import Setting

from ingest_worker import producing
from ingest_worker.settings import WorkerSettings
from segment_api.asyncapi import CHANGES, DEAD_LETTERS, INPUTS, asyncapi_document
from segmentation.assessment import Snapshot
from segmentation.events import TYPE_NAMES, Reject, RejectReason, decode
from segmentation.feeds import ChangeAnnouncement
from segmentation.fields import CustomerId, read_customer_id
from segmentation.ledger import DeadLetter
from segmentation.messages import MARKER_KEYS, Kind, SnapshotBeginMarker, SnapshotEndMarker
from segmentation.outcomes import Partition
from segmentation.segments import Lifecycle
from segmentation.storage.engine import create_engine
from segmentation.tiering import Tier, TierHistory

STORED: Final = Path(__file__).with_name("asyncapi.json")
REGENERATE: Final = ".venv/bin/python -m tests.contract.test_asyncapi_document"
PAGE: Final = (Path(__file__).resolve().parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
DOCUMENT: Final = asyncapi_document(version="0.1.0")
MESSAGES: Final[dict[str, Any]] = DOCUMENT["components"]["messages"]


def as_stored(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def target(reference: str) -> Any:
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def misfits(value: Any, schema: dict[str, Any]) -> list[str]:
    """By both drafts, references into the document resolved."""
    whole = schema | {"components": DOCUMENT["components"]}
    return [
        error.message
        for validator in (Draft7Validator, Draft202012Validator)
        for error in validator(whole).iter_errors(value)
    ]


def test_the_stored_document_is_the_one_that_is_made() -> None:
    """A change of what travels on the topics is seen in review."""
    assert STORED.read_text(encoding="utf-8") == as_stored(DOCUMENT), (
        f"The messages differ from tests/contract/asyncapi.json; if that is wanted, run: {REGENERATE}"
    )


async def test_it_is_served_to_everyone_and_linked_from_the_other_document(database_url: str) -> None:
    engine: AsyncEngine = create_engine(database_url, application_name="tests", pool_size=1)
    async with client_of(engine, Setting(), lambda: NOW) as client:
        answer = await client.get("/asyncapi.json")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == DOCUMENT
        interface = (await client.get("/openapi.json")).json()
        assert "(asyncapi.json)" in interface["info"]["description"]
        assert "/asyncapi.json" not in interface["paths"]
        assert interface["info"]["version"] == DOCUMENT["info"]["version"]
    await engine.dispose()


# --- is it AsyncAPI 3.0 ---------------------------------------------------------------------------------------------

_NAME: Final = "^[A-Za-z0-9_.-]+$"


def _closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _named(each: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "minProperties": 1, "propertyNames": {"pattern": _NAME}, "additionalProperties": each}


_TEXT: Final = {"type": "string", "minLength": 1}
_REFERENCE: Final = _closed(["$ref"], **{"$ref": {"type": "string", "pattern": "^#/"}})
_SCHEMA: Final = {"type": "object"}
_VERSION: Final = {"const": "0.5.0"}
_MESSAGE: Final = _closed(
    ["name", "title", "contentType", "payload", "bindings"],
    name=_TEXT,
    title=_TEXT,
    contentType={"type": "string", "pattern": "^[a-z]+/[a-z+-]+$"},
    payload=_SCHEMA,
    headers=_SCHEMA,
    bindings=_closed(["kafka"], kafka=_closed(["key", "bindingVersion"], key=_SCHEMA, bindingVersion=_VERSION)),
    examples={"type": "array", "minItems": 1, "items": _closed(["name"], name=_TEXT, payload={}, headers=_SCHEMA)},
)
_CHANNEL: Final = _closed(
    ["address", "messages"],
    address=_TEXT,
    title=_TEXT,
    description=_TEXT,
    messages=_named(_REFERENCE),
    bindings=_closed(
        ["kafka"],
        kafka=_closed(
            ["bindingVersion"],
            topic=_TEXT,
            topicConfiguration=_closed(
                [], **{"cleanup.policy": {"type": "array", "items": {"enum": ["compact", "delete"]}}}
            ),
            bindingVersion=_VERSION,
        ),
    ),
)
_OPERATION: Final = _closed(
    ["action", "channel"],
    action={"enum": ["send", "receive"]},
    channel=_REFERENCE,
    title=_TEXT,
    messages={"type": "array", "minItems": 1, "items": _REFERENCE},
    bindings=_closed(["kafka"], kafka=_closed(["bindingVersion"], groupId=_SCHEMA, bindingVersion=_VERSION)),
)
ASYNCAPI: Final = _closed(
    ["asyncapi", "info"],
    asyncapi={"const": "3.0.0"},
    info=_closed(
        ["title", "version"], title=_TEXT, version=_TEXT, description=_TEXT, license=_closed(["name"], name=_TEXT)
    ),
    defaultContentType={"const": "application/json"},
    channels=_named(_CHANNEL),
    operations=_named(_OPERATION),
    components=_closed([], messages=_named(_MESSAGE), schemas=_named(_SCHEMA)),
)
"""What of the specification the document uses, closed: whatever else turns up in it has to be looked up first."""


def test_it_has_the_structure_of_asyncapi_3() -> None:
    assert [f"{error.json_path}: {error.message}" for error in Draft7Validator(ASYNCAPI).iter_errors(DOCUMENT)] == []


def test_every_reference_leads_somewhere() -> None:
    references = [value["$ref"] for value in everything_in(DOCUMENT) if isinstance(value, dict) and "$ref" in value]
    assert len(references) > 100
    assert all(target(reference) for reference in references)


def test_every_operation_names_a_channel_and_messages_of_that_channel() -> None:
    """And every channel has its one operation."""
    used = [operation["channel"]["$ref"] for operation in DOCUMENT["operations"].values()]
    assert sorted(used) == sorted(f"#/channels/{name}" for name in DOCUMENT["channels"])
    for operation in DOCUMENT["operations"].values():
        channel = operation["channel"]["$ref"]
        listed = [message["$ref"] for message in operation["messages"]]
        assert listed == [f"{channel}/messages/{name}" for name in target(channel)["messages"]]
    referred = {target(each["$ref"])["name"] for each in _channel_messages()}
    assert referred == set(MESSAGES)


def _channel_messages() -> list[dict[str, str]]:
    return [each for channel in DOCUMENT["channels"].values() for each in channel["messages"].values()]


def test_every_schema_is_one_by_both_drafts() -> None:
    schemas = [*DOCUMENT["components"]["schemas"].values()]
    schemas += [message["payload"] for message in MESSAGES.values()]
    schemas += [message["bindings"]["kafka"]["key"] for message in MESSAGES.values()]
    for schema in schemas:
        Draft7Validator.check_schema(schema)
        Draft202012Validator.check_schema(schema)


def test_every_property_is_described_or_refers_to_what_is() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for property_name, each in schema.get("properties", {}).items():
            inside = [value for value in everything_in(each) if isinstance(value, dict)]
            described = any(value.get("description") for value in inside) or any(
                target(value["$ref"]).get("description") for value in inside if "$ref" in value
            )
            assert described, f"{name}.{property_name}"


# --- is it true -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MESSAGES)
def test_every_example_is_as_its_schemas_say(name: str) -> None:
    message = MESSAGES[name]
    for example in message.get("examples", ()):
        assert misfits(example.get("payload"), message["payload"]) == []
        assert misfits(example.get("headers", {}), message.get("headers", {})) == []


def test_the_examples_are_those_of_the_page() -> None:
    told = PAGE.partition("## What Tierline sends")[2]
    shown = [json.loads(block) for block in re.findall(r"^```\n(.*?)^```$", told, re.MULTILINE | re.DOTALL)]
    assert shown == [MESSAGES[kind]["examples"][0]["payload"] for kind in Kind]


def test_the_examples_of_cloud_events_are_decoded() -> None:
    """And they are those of the page."""
    structured = MESSAGES["complaint_cloud_event"]["examples"][0]["payload"]
    binary = MESSAGES["feedback_cloud_event_binary"]["examples"][0]
    headers = tuple((name, value.encode()) for name, value in binary["headers"].items())
    for event in (decode(json.dumps(structured).encode()), decode(json.dumps(binary["payload"]).encode(), headers)):
        assert not isinstance(event, Reject)
    blocks = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert [structured, binary["payload"]] == [each for each in map(json.loads, blocks) if "event_id" not in each]
    (shown,) = re.findall(r"^```headers\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert dict(line.split(": ", 1) for line in shown.splitlines()) == binary["headers"]


def test_topics_have_the_default_names_of_the_worker() -> None:
    defaults = {name: field.default for name, field in WorkerSettings.model_fields.items()}
    assert {f"topic_{name}": what[0] for name, what in INPUTS.items()} == {
        name: default
        for name, default in defaults.items()
        if name.startswith("topic_") and default not in (CHANGES, DEAD_LETTERS)
    }
    assert (defaults["topic_changes"], defaults["topic_dead_letters"]) == (CHANGES, DEAD_LETTERS)
    assert {name for _, _, types in INPUTS.values() for name in types} | {"retraction"} == set(TYPE_NAMES.values())


def test_no_key_of_a_marker_is_a_customer_id() -> None:
    for kind, key in MARKER_KEYS.items():
        assert read_customer_id(key.decode()) is None
        schema = MESSAGES[kind]["bindings"]["kafka"]["key"]
        assert misfits(key.decode(), schema) == []
        assert misfits("C-1042", schema) != []


SNAPSHOT: Final = Snapshot(
    customer_id=CustomerId("C-1042"),
    as_of=date(2026, 3, 1),
    due_on=date(2026, 3, 2),
    value=1,
    history=TierHistory(),
    tier=Tier.UNRATED,
    tier_since=date(2026, 3, 1),
    lifecycle=Lifecycle.NEW,
    segment="新客户",
    segment_since=date(2026, 3, 1),
    segment_reasons=(),
    service_level="basic",
    service_reasons=(),
    policy_version=3,
    updated_at=datetime(2026, 3, 1, tzinfo=UTC),
)


def test_messages_as_they_are_produced_are_as_the_document_says() -> None:
    """Value and key, of every kind."""
    side = {"value_tier": "A", "segment": "core", "service_level": "vip", "churn_warning": False}
    payload = {
        "customer_id": "C-1042",
        "as_of": "2026-03-01",
        "before": None,
        "after": side,
        "reasons": ["tier A"],
        "versions": {"policy": 1, "model": None},
    }
    change = ChangeAnnouncement(7, CustomerId("C-1042"), payload, NOW)
    produced = {
        Kind.CHANGE: producing.change_message(change),
        Kind.SNAPSHOT: producing.snapshot_message(9, SNAPSHOT, "1.1"),
        Kind.SNAPSHOT_BEGIN: producing.marker_message(
            SnapshotBeginMarker(snapshot_id="1.1", sequence=0, begun_at=NOW), 0
        ),
        Kind.SNAPSHOT_END: producing.marker_message(
            SnapshotEndMarker(snapshot_id="1.1", sequence=0, customers=0, customers_here=0), 0
        ),
    }
    assert list(produced) == list(Kind)
    for kind, message in produced.items():
        body = json.loads(message.value or b"")
        assert misfits(body, MESSAGES[kind]["payload"]) == []
        assert list(body) == list(target(MESSAGES[kind]["payload"]["$ref"])["properties"])
        assert (body["schema"], body["kind"]) == (1, kind)
        assert message.key is not None
        assert misfits(message.key.decode(), MESSAGES[kind]["bindings"]["kafka"]["key"]) == []
    assert json.loads(produced[Kind.CHANGE].value or b"") == {"schema": 1, "kind": "change", "sequence": 7, **payload}
    told = json.loads(produced[Kind.SNAPSHOT].value or b"")
    assert (told["before"], told["after"]["segment"], told["sequence"]) == (None, "新客户", 9)


@pytest.mark.parametrize("value", [b"nonsense", None, b"x" * 950_000])
@pytest.mark.parametrize("reason", RejectReason)
def test_dead_letters_as_they_are_produced_are_as_the_document_says(reason: RejectReason, value: bytes | None) -> None:
    letter = DeadLetter(
        id=17,
        partition=Partition("orders", 3),
        offset=0,
        reason=reason,
        field_name="amount" if reason is RejectReason.SCHEMA else None,
        sentence="It is wrong.",
        customer_id=None,
        event_id=None,
        recorded_at=NOW,
        replayed_as=None,
        replayed_at=None,
        value=value,
    )
    message = producing.dead_letter_message(letter)
    headers = {name: text.decode() for name, text in message.headers}
    assert misfits(headers, MESSAGES["dead_letter"]["headers"]) == []
    assert ("tierline-field" in headers) == (letter.field_name is not None)
    assert ("tierline-value-omitted" in headers) == (len(value or b"") > 900_000)
    for name in target(MESSAGES["dead_letter"]["headers"]["$ref"])["properties"]:
        assert f"`{name}`" in PAGE


if __name__ == "__main__":
    STORED.write_text(as_stored(DOCUMENT), encoding="utf-8")
