"""Cursors: where a page begins, as text that only we can read, and only for the question that it was given for.

Laws: a cursor that was altered, cut or made up is refused, and so is one of another question; it says nothing that its
page did not say, and grants nothing, so it needs no secret.
"""

import base64
import binascii
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final
from urllib.parse import urlencode

from segment_api.problems import InvalidField, ProblemAnswer

_DIGEST_BYTES: Final = 6
_LONGEST: Final = 4_096
_SHOWN: Final = 100


def cursor_after(place: str, question: str) -> str:
    """The cursor of the page that follows a place."""
    bound = _digest("question", question)
    whole = _digest("cursor", question, place) + bound + place.encode()
    return base64.urlsafe_b64encode(whole).decode().rstrip("=")


def place_of(cursor: str, question: str) -> str:
    """Where the page of a cursor begins.

    Raises:
        ProblemAnswer: 422; the cursor is none of ours, or of another question.
    """
    try:
        whole = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place = whole[2 * _DIGEST_BYTES :].decode()
    except (binascii.Error, ValueError):
        raise _refused(cursor, "is none of ours; take it, whole, from `next` of a page") from None
    bound = whole[_DIGEST_BYTES : 2 * _DIGEST_BYTES]
    if len(cursor) <= _LONGEST and cursor_after(place, question) == cursor:
        return place
    if len(bound) == _DIGEST_BYTES and bound != _digest("question", question):
        raise _refused(cursor, "belongs to other filters; send those of the page that it was on, or begin without it")
    raise _refused(cursor, "is none of ours; take it, whole, from `next` of a page")


def next_page(path: str, parameters: Iterable[tuple[str, str]], cursor: str) -> str:
    """The address of the next page."""
    return f"{path}?{urlencode([*parameters, ('cursor', cursor)])}"


def link_header(following: str | None) -> dict[str, str]:
    """The same as a header (RFC 8288)."""
    return {} if following is None else {"Link": f'<{following}>; rel="next"'}


def _digest(*parts: str) -> bytes:
    return blake2b("\0".join(parts).encode(), digest_size=_DIGEST_BYTES, person=b"tierline-paging").digest()


def _refused(cursor: str, problem: str) -> ProblemAnswer:
    wrong = InvalidField(field="query.cursor", problem=f"{cursor[:_SHOWN]!r} {problem}")
    return ProblemAnswer(422, f"{wrong.field}: {wrong.problem}", errors=[wrong])
