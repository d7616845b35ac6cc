"""How a message is wrapped: plain, or as a CloudEvent 1.0 in structured or binary mode -> its content.

Laws: the same event has the same content whichever way it was wrapped; the attributes of a
CloudEvent win over fields of its data; attributes that nobody reads may hold anything.
"""

from collections.abc import Mapping
from typing import Any, Final

from segmentation.fields import Refused, shown

Headers = tuple[tuple[str, bytes | None], ...]

_PREFIX: Final = "ce_"
_READ: Final = {"id": "event_id", "time": "occurred_at", "type": "type"}
"""Required attributes, and what they are called in the content."""


def unwrap(body: Any, headers: Headers) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """The message's content in the contract's own names.

    Raises:
        Refused: it is no object, or no CloudEvent of version 1.0 although it says it is one.
    """
    binary = {name.removeprefix(_PREFIX): value for name, value in headers if name.startswith(_PREFIX)}
    if binary.get("specversion") is not None:
        return _from_cloud_event({name: _text(value) for name, value in binary.items()}, body)
    if not isinstance(body, dict):
        raise Refused("", f"The value is {shown(body)}; send one JSON object per message.")
    if body.get("specversion") is not None:
        return _from_cloud_event(body, body.get("data"))
    return body


def _text(value: bytes | None) -> str | bytes | None:
    # What is no text stays bytes: if it is read at all, it is refused as the field that it stands for.
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _from_cloud_event(attributes: Mapping[str, Any], data: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    content = dict(data) if isinstance(data, dict) else {}
    if content.get("customer_id") is None and attributes.get("subject") is not None:
        content["customer_id"] = attributes["subject"]
    if attributes["specversion"] != "1.0":
        version = shown(attributes["specversion"])
        raise Refused(
            "specversion", f'specversion is {version}; CloudEvents 1.0 is understood: send "1.0".', content=content
        )
    for attribute, field in _READ.items():
        value = attributes.get(attribute)
        content[field] = value.rpartition(".")[2] if attribute == "type" and isinstance(value, str) else value
    if not isinstance(data, dict):
        raise Refused(
            "data", f"data is {shown(data)}; the event's fields are expected there as an object.", content=content
        )
    for attribute in _READ:
        if attributes.get(attribute) is None:
            raise Refused(attribute, f"The CloudEvent has no {attribute}; it is required.", content=content)
    return content
