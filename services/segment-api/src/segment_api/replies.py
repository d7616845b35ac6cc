"""A customer's answer as bytes: one rendering for the ordinary route and for the hot lane.

Law: `gone_stale` of an answer is, byte for byte, the rendering of the same answer that is stale.
"""

import hashlib
from dataclasses import dataclass
from datetime import date
from functools import cached_property
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


@dataclass(frozen=True)
class Reply:
    """An answer in one language, ready to be sent. What goes before the body is made when it is first wanted."""

    body: bytes
    language: str
    as_of: date

    @cached_property
    def tag(self) -> str:
        """It covers the whole answer, so as_of and the language too."""
        return f'"{hashlib.blake2b(self.body, digest_size=_TAG_BYTES).hexdigest()}"'

    @cached_property
    def headers(self) -> RawHeaders:
        """Of the answer, complete but for what differs from request to request."""
        return _completed(self.response(None))

    @cached_property
    def unchanged_headers(self) -> RawHeaders:
        """Of the answer that nothing has changed."""
        return _completed(self.response(self.tag))

    @cached_property
    def lines(self) -> bytes:
        """The same headers, as they are written."""
        return _lines(self.headers)

    @cached_property
    def unchanged_lines(self) -> bytes:
        """The same, of the answer that nothing has changed."""
        return _lines(self.unchanged_headers)

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
        return Reply(self.body.replace(_FRESH, _STALE, 1), self.language, self.as_of)


def render(answer: Answer, language: str) -> Reply:
    """An answer in a language."""
    return Reply(rendering.segment_bytes(answer, language), language, answer.as_of)


def _lines(headers: RawHeaders) -> bytes:
    return b"".join(b"%b: %b\r\n" % each for each in headers)


def _completed(response: Response) -> RawHeaders:
    headers = MutableHeaders(raw=list(response.raw_headers))
    complete_headers({}, headers)
    return headers.raw
