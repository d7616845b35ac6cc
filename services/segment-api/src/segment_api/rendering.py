"""Answers as bytes: the one way from what the reader found to what goes over the wire, for one customer or a million.

Laws: a customer's answer is the same bytes wherever it stands (alone, in a bulk answer, on a page, on a line of an
export), and equals, value for value, what `presenting.present_segment` says, which the document is made of: a test
holds them together. Bodies are joined of `segment_bytes`: whoever keeps these bytes serves all of them.

Why not pydantic: it takes a tenth of a millisecond a customer. What is done for a customer is the same text for very
many of them, and made once; the rest is encoded by msgspec.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Final

import msgspec

from segment_api import presenting, schemas
from segmentation.answers import Answer, Answers
from segmentation.fields import CustomerId
from segmentation.overrides import effective_tier
from segmentation.policy import Policy, Reason

NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv"
_LEVELS_KEPT: Final = 4_096
"""About 2 kB each."""

_encode = msgspec.json.Encoder().encode


class _Identity:
    """A policy as a key: one object for each version, compared as such, since its tables are too long to compare."""

    __slots__ = ("policy",)

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.policy is self.policy

    def __hash__(self) -> int:
        return id(self.policy)


@lru_cache(maxsize=_LEVELS_KEPT)
def _level(  # noqa: PLR0917 - the key of the cache
    policy: _Identity,
    code: str,
    reasons: tuple[Reason, ...],
    additions: tuple[tuple[str, tuple[Reason, ...]], ...],
    known: int,
    language: str,
) -> tuple[schemas.ServiceLevelPart, msgspec.Raw]:
    words = [reason.text(language) for reason in reasons]
    part = presenting.present_level(policy.policy, code, words, language, additions=additions, known=known)
    return part, msgspec.Raw(part.model_dump_json().encode())


def _level_of(answer: Answer, language: str) -> tuple[schemas.ServiceLevelPart, msgspec.Raw]:
    each = answer.snapshot
    return _level(
        _Identity(answer.policy), each.service_level, each.service_reasons, each.additions, each.facets.known, language
    )


def segment_bytes(answer: Answer, language: str) -> bytes:
    """The answer of `GET /customers/{customer_id}/segment`."""
    each, policy = answer.snapshot, answer.policy
    _, demotion_due = effective_tier(each.history, each.override, each.as_of, policy.tiers.demotion_grace_days)
    override = presenting.present_override(each.overridden)
    return _encode(
        {
            "customer_id": each.customer_id,
            "as_of": answer.as_of,
            "segment": {
                "code": each.shown_segment,
                "name": presenting.name_of_segment(each, policy, answer.model, language),
                "since": each.segment_since,
                "source": presenting.source_of_segment(each),
                "confidence": each.outlook and each.outlook.confidence,
            },
            "lifecycle": each.lifecycle,
            "value_tier": each.tier,
            "tier": {
                "effective": each.tier,
                "computed": each.history.computed,
                "since": each.tier_since,
                "demotion_due": demotion_due,
                "override": None if override is None else override.model_dump(mode="json"),
            },
            "value_level": each.facets.value_level,
            "risk": {
                "churn_probability": each.outlook and each.outlook.churn_probability,
                "warning": each.churn_warning,
            },
            "recommended_service_level": _level_of(answer, language)[1],
            "stale": answer.stale,
            "versions": {"policy": each.policy_version, "model": each.model_version or None},
            "updated_at": schemas.utc_text(each.updated_at),
        }
    )


# --- bodies ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a question about several customers."""

    as_of: date | None
    bodies: Mapping[CustomerId, bytes]
    """Of those who are known."""
    default: Policy | None
    """Says what the unknown get; None only where nobody is unknown."""

    @classmethod
    def of(cls, answers: Answers, language: str) -> "Found":
        """As the reader found it."""
        bodies = {each: segment_bytes(answer, language) for each, answer in answers.known.items()}
        return cls(answers.as_of, bodies, answers.policy)

    def level(self, language: str) -> msgspec.Raw | None:
        """What is to be done for the unknown."""
        if self.default is None:
            return None
        return msgspec.Raw(presenting.present_unknown(self.default, language).model_dump_json().encode())


def segments_body(found: Found, wanted: Iterable[CustomerId | str], language: str) -> bytes:
    """The answer of `POST /customers/segments`: whoever is unknown gets the policy's default level."""
    known: list[bytes] = []
    unknown: list[bytes] = []
    level = found.level(language)
    for each in wanted:
        body = found.bodies.get(CustomerId(each))
        if body is not None:
            known.append(body)
        else:
            unknown.append(_encode({"customer_id": each, "recommended_service_level": level}))
    head = b'{"as_of":' + _encode(found.as_of)
    return head + b',"customers":[' + b",".join(known) + b'],"unknown":[' + b",".join(unknown) + b"]}"


def segments_lines(found: Found, wanted: Iterable[CustomerId | str], language: str) -> bytes:
    """The same as NDJSON: a line for each customer, in the order asked for."""
    level = found.level(language)
    lines = [
        found.bodies.get(CustomerId(each))
        or _encode({"customer_id": each, "as_of": found.as_of, "recommended_service_level": level})
        for each in wanted
    ]
    return b"".join(line + b"\n" for line in lines)


def page_body(as_of: date | None, answers: Sequence[Answer], following: str | None, language: str) -> bytes:
    """A page of `GET /customers`."""
    head = b'{"as_of":' + _encode(as_of) + b',"customers":['
    rows = b",".join(segment_bytes(answer, language) for answer in answers)
    return head + rows + b'],"next":' + _encode(following) + b"}"


# --- exports --------------------------------------------------------------------------------------------------------

COLUMNS: Final = (
    "customer_id", "as_of", "segment", "segment_name", "segment_since", "lifecycle", "value_tier", "computed_tier",
    "tier_since", "demotion_due", "override_tier", "override_service_level", "override_expires_on", "value_level",
    "grade", "size", "frequency", "industry", "subject_type", "region", "channel", "needs", "churn_probability",
    "churn_warning", "service_level", "service_level_name", "dispatch_priority", "actions", "reasons", "stale",
    "policy_version", "model_version", "updated_at",
)  # fmt: skip
"""Of a CSV export; the names never change with the language."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The last four are the full-width forms, which spreadsheets in Chinese take for the same."""
_COMPLETE: Final = "#complete"
"""No customer id begins like this."""
_INCOMPLETE: Final = "#incomplete"


class NdjsonExport:
    """A customer a line; where that is wanted, then a line that says how many there were."""

    media_type = NDJSON
    suffix = "ndjson"

    def __init__(self, *, trailer: bool) -> None:
        self._trailer = trailer

    def head(self) -> bytes:
        return b""

    def rows(self, answers: Iterable[Answer], language: str) -> bytes:
        return b"".join(segment_bytes(answer, language) + b"\n" for answer in answers)

    def tail(self, as_of: date | None, customers: int) -> bytes:
        if not self._trailer:
            return b""
        return _encode({"complete": True, "as_of": as_of, "customers": customers}) + b"\n"

    def broken(self, as_of: date | None, customers: int, detail: str) -> bytes:
        if not self._trailer:
            return b""
        return _encode({"complete": False, "as_of": as_of, "customers": customers, "detail": detail}) + b"\n"


class CsvExport:
    """RFC 4180 with a header; the last row's first cell says whether that was everybody, its third how many."""

    media_type = f"{CSV}; charset=utf-8; header=present"
    suffix = "csv"

    def head(self) -> bytes:
        return _csv([COLUMNS])

    def rows(self, answers: Iterable[Answer], language: str) -> bytes:
        return _csv(map(_guarded, (_csv_row(answer, language) for answer in answers)))

    def tail(self, as_of: date | None, customers: int) -> bytes:
        return _csv([_closing(_COMPLETE, as_of, customers, "")])

    def broken(self, as_of: date | None, customers: int, detail: str) -> bytes:
        return _csv([_closing(_INCOMPLETE, as_of, customers, detail)])


def _closing(word: str, as_of: date | None, customers: int, detail: str) -> list[str]:
    # As wide as all others: a table stays a table.
    cells = [word, "" if as_of is None else as_of.isoformat(), str(customers), detail]
    return cells + [""] * (len(COLUMNS) - len(cells))


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    written = io.StringIO(newline="")
    csv.writer(written).writerows(rows)
    return written.getvalue().encode()


def _guarded(row: Sequence[Any]) -> list[str]:
    cells = ["" if cell is None else str(cell) for cell in row]
    # A spreadsheet would run what begins like a formula, and anybody who sends events can choose a region's name.
    return [f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells]


def _csv_row(answer: Answer, language: str) -> Sequence[Any]:
    each, policy, facets = answer.snapshot, answer.policy, answer.snapshot.facets
    _, demotion_due = effective_tier(each.history, each.override, each.as_of, policy.tiers.demotion_grace_days)
    override, level = each.overridden, _level_of(answer, language)[0]
    return (
        each.customer_id,
        answer.as_of,
        each.shown_segment,
        presenting.name_of_segment(each, policy, answer.model, language),
        each.segment_since,
        each.lifecycle,
        each.tier,
        each.history.computed,
        each.tier_since,
        demotion_due,
        override and override.tier,
        override and override.service_level,
        override and override.expires_on,
        facets.value_level,
        facets.grade,
        facets.size,
        facets.frequency,
        facets.industry,
        facets.subject_type,
        facets.region,
        facets.channel,
        " ".join(facets.needs),
        each.outlook and each.outlook.churn_probability,
        str(each.churn_warning).lower(),
        level.code,
        level.name,
        level.dispatch_priority,
        " ".join(level.actions),
        "; ".join(level.reasons),
        str(answer.stale).lower(),
        each.policy_version,
        each.model_version or None,
        schemas.utc_text(each.updated_at),
    )
