"""What Tierline sends: the messages on the topics of changes and of dead letters, field by field.

Laws: whatever is produced is built from a type of this module, and the AsyncAPI document is made from the same types;
within a schema version fields and kinds are only added (docs/events.md says what makes a new version); a key of ours
that is no customer id begins with `#`, which no customer id does.
"""

import enum
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from segmentation.events import RejectReason
from segmentation.tiering import Tier

SCHEMA_VERSION: Final = 1
"""Of the messages on both topics."""

HEADER_PREFIX: Final = "tierline-"


class Kind(enum.StrEnum):
    """What a message on the topic of changes is."""

    CHANGE = "change"
    SNAPSHOT = "snapshot"
    SNAPSHOT_BEGIN = "snapshot_begin"
    SNAPSHOT_END = "snapshot_end"


MARKER_KEYS: Final[Mapping[Kind, bytes]] = {
    Kind.SNAPSHOT_BEGIN: b"#snapshot_begin",
    Kind.SNAPSHOT_END: b"#snapshot_end",
}
"""The same for all full snapshots, so that compaction keeps the markers of the last one only."""


def _open(schema: dict[str, Any]) -> None:
    """Makes a published schema say what its version promises: fields may be added."""
    schema.pop("additionalProperties", None)


class _Sent(BaseModel):
    """A JSON object that is sent; its fields are in the order in which they are declared."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_serialization_defaults_required=True, json_schema_extra=_open
    )

    def encoded(self) -> bytes:
        """The value of the Kafka message."""
        return self.model_dump_json(by_alias=True).encode()


def _open_to_older(schema: dict[str, Any]) -> None:
    """What was sent before a field was added is as the schema says too."""
    _open(schema)
    schema["required"] = [name for name in schema["required"] if name not in _ADDED]


_ADDED: Final = ("churn_warning",)
"""Fields of a side that the first messages of this version are without."""


class Side(_Sent):
    """Where a customer stands."""

    model_config = ConfigDict(json_schema_extra=_open_to_older)

    value_tier: Tier = Field(description="The effective tier.")
    segment: str = Field(
        description="Code of the segment: of the model in force, or of the policy where no model knows the customer.",
        examples=["strategic"],
    )
    service_level: str = Field(description="Code of the service level; the policy names them.", examples=["vip"])
    churn_warning: bool = Field(
        default=False,
        description="Whether there is a churn warning; messages from before there were any are without it.",
    )


class Versions(_Sent):
    """What decided."""

    policy: int = Field(description="Version of the policy.")
    model: int | None = Field(description="Version of the model in force; null without one.")


class _Stands(_Sent):
    schema_: Literal[1] = Field(SCHEMA_VERSION, alias="schema", description="Version of this schema.")
    kind: Literal[Kind.CHANGE, Kind.SNAPSHOT]
    sequence: int = Field(ge=1, description="Position in the feed of changes.")
    customer_id: str = Field(description="Who stands so; also the key.", examples=["C-1042"])
    as_of: date = Field(description="The business day that it was computed for.")
    before: Side | None
    after: Side
    reasons: list[str] = Field(
        description="Why, in English: of the segment, of the service level, and of a churn warning."
    )
    versions: Versions


class ChangeMessage(_Stands):
    """A customer's tier, segment or service level became another, or a churn warning began or ended."""

    kind: Literal[Kind.CHANGE] = Field(Kind.CHANGE, description="Always `change`.")
    sequence: int = Field(
        ge=1,
        description="Counts all changes, over all customers, without a gap but where a customer was erased. Of one "
        "customer it only grows; drop what is not greater than what you have.",
    )
    before: Side | None = Field(description="Where the customer stood; null for one heard of for the first time.")
    after: Side = Field(description="Where the customer stands from now on.")


class ErasedMessage(_Sent):
    """A customer was erased: forget what was told of it. For those who follow over HTTP."""

    schema_: Literal[1] = Field(SCHEMA_VERSION, alias="schema", description="Version of this schema.")
    kind: Literal["erased"] = Field("erased", description="Always `erased`; on the topic it is a tombstone.")
    sequence: int = Field(ge=1, description="As of a change; nothing about the customer comes after it.")
    customer_id: str = Field(description="Who was erased.", examples=["C-1042"])


class SnapshotMessage(_Stands):
    """Where a customer stands, as part of a full snapshot; nothing need have changed."""

    kind: Literal[Kind.SNAPSHOT] = Field(Kind.SNAPSHOT, description="Always `snapshot`.")
    sequence: int = Field(
        ge=0,
        description="It is exactly what stands after all changes up to this sequence; later ones come behind it. Drop "
        "what is not greater than what you have of the customer.",
    )
    before: None = Field(None, description="Always null.")
    after: Side = Field(description="Where the customer stands.")
    snapshot_id: str = Field(description="The full snapshot that it is part of.", examples=["17.1"])


class SnapshotBeginMarker(_Sent):
    """A full snapshot begins; one on every partition, before anything of it."""

    schema_: Literal[1] = Field(SCHEMA_VERSION, alias="schema", description="Version of this schema.")
    kind: Literal[Kind.SNAPSHOT_BEGIN] = Field(Kind.SNAPSHOT_BEGIN, description="Always `snapshot_begin`.")
    snapshot_id: str = Field(
        description="Its name; a snapshot that broke off begins anew under another.", examples=["17.1"]
    )
    sequence: int = Field(ge=0, description="Changes up to this one came before.")
    begun_at: datetime = Field(description="When it began, by the database's clock.")


class SnapshotEndMarker(_Sent):
    """A full snapshot is complete; one on every partition, after all of it."""

    schema_: Literal[1] = Field(SCHEMA_VERSION, alias="schema", description="Version of this schema.")
    kind: Literal[Kind.SNAPSHOT_END] = Field(Kind.SNAPSHOT_END, description="Always `snapshot_end`.")
    snapshot_id: str = Field(
        description="As in its begin marker; an end without its begin is to be ignored.", examples=["17.1"]
    )
    sequence: int = Field(ge=0, description="Changes up to this one came before.")
    customers: int = Field(ge=0, description="Snapshot messages, over all partitions.")
    customers_here: int = Field(
        ge=0, description="Of these on this partition. Fewer are there once compaction has dropped superseded ones."
    )


def _header(name: str) -> str:
    return HEADER_PREFIX + name.replace("_", "-")


def _as_headers(schema: dict[str, Any]) -> None:
    """A header that does not apply is absent, never null."""
    _open(schema)
    schema["required"].insert(0, _header("schema"))
    for each in schema["properties"].values():
        if "anyOf" in each:
            each.update(next(choice for choice in each.pop("anyOf") if choice != {"type": "null"}))
            del each["default"]


class _Headers(BaseModel):
    """Headers of ours on a message; all are text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=_header, validate_by_name=True, json_schema_extra=_as_headers
    )

    def encoded(self) -> list[tuple[str, bytes]]:
        """The headers of the Kafka message; what does not apply is left out."""
        return [(name, text.encode()) for name, text in self.model_dump(by_alias=True).items() if text]


class TombstoneHeaders(_Headers):
    """Headers of a message without a value: its customer was erased."""

    schema_: Literal["1"] = Field("1", alias="tierline-schema", description="Version of these headers.")
    sequence: str = Field(
        description="Position in the feed of changes, as `sequence` of a change.", pattern="^[1-9][0-9]*$"
    )


class DeadLetterHeaders(_Headers):
    """Headers of a dead letter; all are text, and its own headers stand beside them."""

    schema_: Literal["1"] = Field("1", alias="tierline-schema", description="Version of these headers.")
    id: str = Field(description="The id in `GET /dead-letters/{id}`.", pattern="^[1-9][0-9]*$", examples=["17"])
    reason: RejectReason = Field(description="Why it was rejected.")
    field: str | None = Field(None, description="The field that is wrong, where it is one.")
    detail: str = Field(description="The field, its value, and what to send instead.")
    topic: str = Field(description="Topic on which it was read.")
    partition: str = Field(description="Partition in which it was read.", pattern="^[0-9]+$")
    offset: str = Field(description="Offset at which it was read.", pattern="^[0-9]+$")
    value_omitted: Literal["true"] | None = Field(
        None,
        description="With its headers the value is too large to be sent on; all is kept, see `GET /dead-letters/{id}`.",
    )


def change_message(position: int, payload: Mapping[str, Any]) -> ChangeMessage:
    """A change as the store keeps it, at its position in the feed."""
    return ChangeMessage(sequence=position, **payload)


def tombstone_headers(position: int) -> list[tuple[str, bytes]]:
    """The headers of a message without a value: since compaction may keep it for long, no more than its place."""
    return TombstoneHeaders(sequence=str(position)).encoded()


def snapshot_message(position: int, payload: Mapping[str, Any], snapshot_id: str) -> SnapshotMessage:
    """Where a customer stands as of a position in the feed, as `announcements.Change.payload` says it."""
    return SnapshotMessage(sequence=position, snapshot_id=snapshot_id, **payload)
