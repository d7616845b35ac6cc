"""A posted body -> the bytes of each event in it, exactly as they stand there.

Laws: only the envelope is read here (an array, an object with `events`, or lines); what is between its commas is cut
out byte for byte and judged by `events.decode` like a message of Kafka, so no number of an event passes through
anything else, and an event that is no JSON spoils no other.
"""

import re
from typing import Final

from segmentation import json_values
from segmentation.json_values import InvalidJson

MOST_EVENTS: Final = 1_000

_LINES: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
_JSON: Final = re.compile(r"application/(?:[\w.+-]+\+)?json|", re.ASCII)
_WHITE: Final = b" \t\r\n"
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_TOKEN: Final = re.compile(_STRING + rb'|["\[\]{},]', re.DOTALL)
_MEMBER: Final = re.compile(rb"(" + _STRING + rb")[ \t\r\n]*:[ \t\r\n]*(.+)", re.DOTALL)


class UnreadableBody(ValueError):
    """The envelope cannot be read, so nobody can say what its events are; the message says why."""


def rows(body: bytes, content_type: str) -> list[bytes]:
    """The bytes of each event, in order; blank lines are none.

    Raises:
        UnreadableBody: nothing of it is taken.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in _LINES:
        found = [line for line in (each.strip(_WHITE) for each in body.split(b"\n")) if line]
    elif _JSON.fullmatch(media_type):
        found = _of_json(body.strip(_WHITE))
    else:
        raise UnreadableBody(f"Content-Type is {media_type[:60]!r}; send application/json or application/x-ndjson")
    if len(found) > MOST_EVENTS:
        raise UnreadableBody(f"{len(found):,} events are more than {MOST_EVENTS:,}; send them in several calls")
    return found


def _of_json(text: bytes) -> list[bytes]:
    if text.startswith(b"["):
        return _parts(text)
    if not text.startswith(b"{"):
        raise UnreadableBody("a JSON array of events is expected, or an object with `events`")
    events: bytes | None = None
    for part in _parts(text):
        member = _MEMBER.fullmatch(part)
        if member is None:
            raise UnreadableBody("it is no valid JSON: a name and a value are expected between two commas")
        try:
            name = json_values.parse(member[1])
        except InvalidJson as error:
            raise UnreadableBody(f"it is no valid JSON: {error}") from None
        if name == "events":
            events = member[2]
    if events is None:
        raise UnreadableBody("an object with `events`, an array, is expected; put a single event into an array")
    if not events.startswith(b"["):
        raise UnreadableBody("`events` is no array")
    return _parts(events)


def _parts(text: bytes) -> list[bytes]:
    """What stands between the brackets and commas of an array or object."""
    found: list[bytes] = []
    depth, begin = 0, 1
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in b"[{":
            depth += 1
        elif token in b"]}":
            depth -= 1
            if depth == 0:
                if match.end() != len(text) or token != (b"]" if text[:1] == b"[" else b"}"):
                    raise UnreadableBody(f"it is no valid JSON: it does not end at byte {match.end()} as it begins")
                found.append(text[begin : match.start()].strip(_WHITE))
                break
        elif token == b",":
            if depth == 1:
                found.append(text[begin : match.start()].strip(_WHITE))
                begin = match.end()
        elif token == b'"':
            raise UnreadableBody(f"it is no valid JSON: the string at byte {match.start()} does not end")
    else:
        raise UnreadableBody("it is no valid JSON: a bracket is never closed")
    if found == [b""]:
        return []
    if b"" in found:
        raise UnreadableBody("it is no valid JSON: there is nothing between two commas")
    return found
