"""A customer's answer as bytes: one rendering for the ordinary route and for the hot lane.

Law: `gone_stale` of an answer is, byte for byte, the rendering of the same answer that is stale.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from fastapi import Response
from starlette.datastructures import MutableHeaders

from segment_api import rendering
from segment_api.observing import complete_headers
from segmentation.answers import Answer

_FRESH: Final = b'"stale":false'
_STALE: Final = b'"stale":true'
# Nothing else in an answer reads so: a quotation mark inside a string is escaped.
_TAG_BYTES: Final = 12
_OVERHEAD: Final = 3_000

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Reply:
    """An answer in one language, ready to be sent."""

    body: bytes
    language: str
    tag: str = field(init=False)
    """It covers the whole answer, so as_of and the language too."""
    headers: RawHeaders = field(init=False)
    """Of the answer, complete but for what differs from request to request."""
    unchanged_headers: RawHeaders = field(init=False)
    """Of the answer that nothing has changed."""
    lines: bytes = field(init=False)
    """The same headers, as they are written."""
    unchanged_lines: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.tag = f'"{hashlib.blake2b(self.body, digest_size=_TAG_BYTES).hexdigest()}"'
        self.headers = _completed(self.response(None))
        self.unchanged_headers = _completed(self.response(self.tag))
        self.lines = _lines(self.headers)
        self.unchanged_lines = _lines(self.unchanged_headers)

    @property
    def size(self) -> int:
        """About how much memory it takes."""
        return len(self.body) + _OVERHEAD

    def is_known(self, if_none_match: str | None) -> bool:
        """Whether the caller has it already."""
        if if_none_match is None:
            return False
        candidates = [candidate.strip().removeprefix("W/") for candidate in if_none_match.split(",")]
        return self.tag in candidates or "*" in candidates

    def response(self, if_none_match: str | None) -> Response:
        """What the ordinary route answers."""
        headers = {
            "ETag": self.tag,
            "Content-Language": self.language,
            "Vary": "Accept-Language",
            "Cache-Control": "no-cache",
        }
        if self.is_known(if_none_match):
            return Response(status_code=304, headers=headers)
        return Response(self.body, media_type="application/json", headers=headers)

    def gone_stale(self) -> "Reply":
        """The same answer, said to be stale."""
        return Reply(self.body.replace(_FRESH, _STALE, 1), self.language)


def render(answer: Answer, language: str) -> Reply:
    """An answer in a language."""
    return Reply(rendering.segment_bytes(answer, language), language)


def _lines(headers: RawHeaders) -> bytes:
    return b"".join(b"%b: %b\r\n" % each for each in headers)


def _completed(response: Response) -> RawHeaders:
    headers = MutableHeaders(raw=list(response.raw_headers))
    complete_headers({}, headers)
    return headers.raw
