"""The AsyncAPI document: every topic and its messages, made from the types that they are read and written with.

Laws: no schema is written here: those of events come from `segmentation.event_schemas`, those of what is sent from
`segmentation.messages`. The API does not know how the worker's topics are called: the document has the default names
and says so.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from segmentation import event_schemas, messages
from segmentation.event_schemas import TITLES, UNSAID
from segmentation.events import MAX_MESSAGE_BYTES

PATH: Final = "/asyncapi.json"

Json = dict[str, Any]

_DESCRIPTION: Final = f"""
What Tierline reads from Kafka and what it writes to it. One message is one event; send it again as often as you like,
in any order, on any of the input topics: it counts once, and every type is accepted on every input topic.

* Topics carry their default names here. The worker's settings `TOPIC_ORDERS`, `TOPIC_RETURNS`, `TOPIC_COMPLAINTS`,
  `TOPIC_FEEDBACK`, `TOPIC_CUSTOMERS`, `TOPIC_CHANGES` and `TOPIC_DEAD_LETTERS` may call them otherwise.
* Events come as plain JSON or as CloudEvents 1.0, structured or binary; at most {MAX_MESSAGE_BYTES:,} bytes.
* A message that fits its schema can still be rejected for: {"; ".join(UNSAID)}.
* Within a schema version fields and kinds of messages are added; pass over what you do not know.
* What Tierline writes comes at least once. Of one customer the sequence never falls: drop what is not greater than what
  you have.

Tierline 读取和写入的 Kafka 主题。输入事件可重复、可乱序发送, 每个事件只计一次。
输出至少送达一次; 同一客户按 `sequence` 递增, 不大于已有序号的消息请丢弃。主题名称为默认值, 可由 `TOPIC_*` 设置更改。
"""

_KAFKA_BINDING: Final = "0.5.0"
_CUSTOMER_KEY: Final = {
    "type": "string",
    "pattern": event_schemas.CUSTOMER_ID_PATTERN,
    "description": "The customer id; it spreads the load, and nothing else depends on it.",
}

INPUTS: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    "orders": ("logistics.orders", "Orders, cancellations and deliveries", ("order", "order_cancelled", "delivery")),
    "returns": ("logistics.returns", "Returns", ("return",)),
    "complaints": ("logistics.complaints", "Complaints", ("complaint",)),
    "feedback": ("logistics.feedback", "Feedback", ("feedback",)),
    "customers": ("logistics.customers", "Master data of customers", ("customer",)),
}
"""Channel: default topic, title, and what normally travels there; a retraction may on any."""
CHANGES: Final = "segmentation.changes"
DEAD_LETTERS: Final = "segmentation.dead-letters"

_STRUCTURED_EXAMPLE: Final = {
    "specversion": "1.0",
    "id": "crm-c-8802",
    "source": "/crm/shanghai",
    "type": "com.example.crm.complaint",
    "time": "2026-03-05T03:00:00Z",
    "subject": "C-1042",
    "datacontenttype": "application/json",
    "data": {"category": "damaged", "severity": 4},
}
_BINARY_EXAMPLE: Final = {
    "headers": {
        "ce_specversion": "1.0",
        "ce_id": "survey-2026-03-772",
        "ce_source": "/surveys",
        "ce_type": "com.example.surveys.feedback",
        "ce_time": "2026-03-06T12:30:00Z",
        "ce_subject": "C-1042",
        "content-type": "application/json",
    },
    "payload": {"score": 9, "kind": "csat"},
}
_AFTER: Final = {"value_tier": "A", "segment": "strategic", "service_level": "vip", "churn_warning": False}
_CHANGE_EXAMPLE: Final = {
    "schema": 1,
    "kind": "change",
    "sequence": 4711,
    "customer_id": "C-1042",
    "as_of": "2026-11-22",
    "before": {"value_tier": "B", "segment": "core", "service_level": "stable", "churn_warning": False},
    "after": _AFTER,
    "reasons": ["tier A", "tier A"],
    "versions": {"policy": 1, "model": None},
}
_SNAPSHOT_EXAMPLE: Final = _CHANGE_EXAMPLE | {
    "kind": "snapshot",
    "sequence": 4720,
    "before": None,
    "snapshot_id": "17.1",
}
_BEGIN_EXAMPLE: Final = {
    "schema": 1,
    "kind": "snapshot_begin",
    "snapshot_id": "17.1",
    "sequence": 4718,
    "begun_at": "2026-11-22T08:15:30.120000Z",
}
_END_EXAMPLE: Final = {
    "schema": 1,
    "kind": "snapshot_end",
    "snapshot_id": "17.1",
    "sequence": 4731,
    "customers": 5942,
    "customers_here": 1491,
}
_DEAD_LETTER_EXAMPLE: Final = {
    "headers": {
        "tierline-schema": "1",
        "tierline-id": "17",
        "tierline-reason": "schema",
        "tierline-field": "amount",
        "tierline-detail": "amount is '-5'; an amount is expected, 0 or more, ...",
        "tierline-topic": "logistics.orders",
        "tierline-partition": "3",
        "tierline-offset": "1204",
    },
    "payload": {"event_id": "evt-881", "type": "order", "amount": "-5"},
}


class _Untitled(GenerateJsonSchema):
    """Without a title for each property: its name says the same."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - a core schema
        return False


def asyncapi_document(*, version: str) -> Json:
    """The document, as `GET /asyncapi.json` serves it."""
    schemas: dict[str, Json] = {}
    described = _events(schemas) | _sent(schemas)
    channels = {name: _input(*what) for name, what in INPUTS.items()} | _outputs()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tierline",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": _operations(channels),
        "components": {"messages": described, "schemas": schemas},
    }


# --- channels and operations ----------------------------------------------------------------------------------------


def _input(topic: str, title: str, types: tuple[str, ...]) -> Json:
    names = [f"{name}{form}" for name in (*types, "retraction") for form in ("", "_cloud_event", "_cloud_event_binary")]
    return {
        "address": topic,
        "title": title,
        "description": "What normally travels here; every type of event is accepted on every input topic.",
        "messages": {name: _ref("messages", name) for name in names},
        "bindings": {"kafka": {"topic": topic, "bindingVersion": _KAFKA_BINDING}},
    }


def _outputs() -> Json:
    change_kinds = ("change", "snapshot", "snapshot_begin", "snapshot_end", "erased")
    return {
        "changes": {
            "address": CHANGES,
            "title": "Changes of tier, segment or service level, and full snapshots",
            "description": "Compacted: the last message of a customer is where it stands. Between the markers of a "
            "full snapshot everyone is mentioned, so whoever is not has gone.",
            "messages": {name: _ref("messages", name) for name in change_kinds},
            "bindings": {
                "kafka": {
                    "topic": CHANGES,
                    "topicConfiguration": {"cleanup.policy": ["compact"]},
                    "bindingVersion": _KAFKA_BINDING,
                }
            },
        },
        "dead_letters": {
            "address": DEAD_LETTERS,
            "title": "Rejected messages",
            "description": "Each with its own bytes and headers, and in headers of ours why and where from.",
            "messages": {"dead_letter": _ref("messages", "dead_letter")},
            "bindings": {"kafka": {"topic": DEAD_LETTERS, "bindingVersion": _KAFKA_BINDING}},
        },
    }


def _operations(channels: Mapping[str, Json]) -> Json:
    operations = {}
    for name, channel in channels.items():
        action = "receive" if name in INPUTS else "send"
        operation: Json = {
            "action": action,
            "channel": {"$ref": f"#/channels/{name}"},
            "title": f"{'Read' if action == 'receive' else 'Write'}: {channel['title'].lower()}",
            "messages": [{"$ref": f"#/channels/{name}/messages/{each}"} for each in channel["messages"]],
        }
        if action == "receive":
            group = {"type": "string", "default": "tierline-ingest", "description": "`KAFKA_GROUP_ID` of the workers."}
            operation["bindings"] = {"kafka": {"groupId": group, "bindingVersion": _KAFKA_BINDING}}
        operations[f"{action}_{name}"] = operation
    return operations


# --- messages -------------------------------------------------------------------------------------------------------


def _events(schemas: dict[str, Json]) -> Json:
    """The eight types, each plain and as a CloudEvent in both modes."""
    found: Json = {}
    for name, title in TITLES.items():
        schemas[name] = event_schemas.event_schema(name)
        schemas[f"{name}_cloud_event"] = event_schemas.envelope_schema(name)
        schemas[f"{name}_data"] = event_schemas.data_schema(name)
        schemas[f"{name}_headers"] = _cloud_event_headers(name)
        found[name] = _message(name, title, _ref("schemas", name)) | {
            "examples": [{"name": "plain", "payload": dict(event_schemas.EXAMPLES[name])}]
        }
        found[f"{name}_cloud_event"] = _message(
            f"{name}_cloud_event",
            f"{title} (CloudEvent, structured)",
            _ref("schemas", f"{name}_cloud_event"),
            content_type="application/cloudevents+json",
        )
        found[f"{name}_cloud_event_binary"] = _message(
            f"{name}_cloud_event_binary", f"{title} (CloudEvent, binary)", _ref("schemas", f"{name}_data")
        ) | {"headers": _ref("schemas", f"{name}_headers")}
    found["complaint_cloud_event"]["examples"] = [{"name": "structured", "payload": _STRUCTURED_EXAMPLE}]
    found["feedback_cloud_event_binary"]["examples"] = [{"name": "binary", **_BINARY_EXAMPLE}]
    return found


def _cloud_event_headers(type_name: str) -> Json:
    """The attributes of a CloudEvent in binary mode."""
    attributes = event_schemas.envelope_schema(type_name)["properties"]
    named = {f"ce_{name}": attributes[name] for name in ("specversion", "id", "type", "time")}
    return {
        "title": "Attributes of a CloudEvent in binary mode",
        "type": "object",
        "properties": named | {"ce_subject": attributes["subject"]},
        "required": list(named),
    }


def _sent(schemas: dict[str, Json]) -> Json:
    """What Tierline writes."""
    begin, end = (messages.MARKER_KEYS[kind].decode() for kind in messages.MARKER_KEYS)
    customer = {"type": "string", "pattern": event_schemas.CUSTOMER_ID_PATTERN, "description": "The customer id."}
    found = {
        "change": _of_model(messages.ChangeMessage, schemas, "change", key=customer, example=_CHANGE_EXAMPLE),
        "snapshot": _of_model(messages.SnapshotMessage, schemas, "snapshot", key=customer, example=_SNAPSHOT_EXAMPLE),
        "snapshot_begin": _of_model(
            messages.SnapshotBeginMarker, schemas, "snapshot_begin", key={"const": begin}, example=_BEGIN_EXAMPLE
        ),
        "snapshot_end": _of_model(
            messages.SnapshotEndMarker, schemas, "snapshot_end", key={"const": end}, example=_END_EXAMPLE
        ),
        "erased": _message(
            "erased",
            "A customer was erased",
            {"type": "null", "description": "A tombstone: the message has no value."},
            key=customer,
        )
        | {"headers": _ref("schemas", "erased_headers")},
    }
    schemas["erased_headers"] = _model_schema(messages.TombstoneHeaders, schemas)
    schemas["dead_letter_headers"] = _model_schema(messages.DeadLetterHeaders, schemas)
    found["dead_letter"] = _message(
        "dead_letter",
        "A rejected message",
        {"description": "The bytes of the rejected message, whatever they are."},
        content_type="application/octet-stream",
        key=customer | {"description": "The customer id, where one could be read."},
    ) | {
        "headers": _ref("schemas", "dead_letter_headers"),
        "examples": [{"name": "dead_letter", **_DEAD_LETTER_EXAMPLE}],
    }
    return found


def _of_model(model: type[BaseModel], schemas: dict[str, Json], name: str, *, key: Json, example: Json) -> Json:
    schemas[name] = _model_schema(model, schemas)
    title = (model.__doc__ or name).partition("\n")[0].rstrip(".")
    message = _message(name, title, _ref("schemas", name), key={"type": "string"} | key)
    return message | {"examples": [{"name": name, "payload": example}]}


def _model_schema(model: type[BaseModel], schemas: dict[str, Json]) -> Json:
    """The schema of what is sent; the schemas inside it are put beside it."""
    schema = model.model_json_schema(
        mode="serialization", ref_template="#/components/schemas/{model}", schema_generator=_Untitled
    )
    schemas |= schema.pop("$defs", {})
    return schema


def _message(
    name: str, title: str, payload: Json, *, content_type: str = "application/json", key: Json | None = None
) -> Json:
    return {
        "name": name,
        "title": title,
        "contentType": content_type,
        "payload": payload,
        "bindings": {"kafka": {"key": dict(key or _CUSTOMER_KEY), "bindingVersion": _KAFKA_BINDING}},
    }


def _ref(part: str, name: str) -> Json:
    return {"$ref": f"#/components/{part}/{name}"}
