"""The laws that docstrings of the pure domain state, each under its own name."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from tests.support import builders
from tests.support.histories import CUSTOMER_IDS, MALFORMED_FIELDS, NOT_EVENTS, NOT_JSON, NOW, _spelled, histories
from tests.support.oracle import Message, NotJson, Oracle, Setting, read_json

from segmentation import events, json_values, metrics, tiering
from segmentation.buckets import DayBucket, merge, negate
from segmentation.events import Reject
from segmentation.fields import CustomerId
from segmentation.tiering import TIERS, Tier, TierRules

# --- buckets --------------------------------------------------------------------------------------------------------

numbers = st.one_of(st.integers(-10, 10), st.integers(-(2**80), 2**80))
scores = st.decimals(0, 10, places=12).map(Fraction)
buckets = st.builds(DayBucket, *[numbers] * (len(DayBucket._fields) - 1), scores)


@given(buckets, buckets, buckets)
def test_merge_is_commutative_and_associative(one: DayBucket, two: DayBucket, three: DayBucket) -> None:
    assert merge(one, two) == merge(two, one)
    assert merge(merge(one, two), three) == merge(one, merge(two, three))
    assert merge(one, DayBucket()) == one


@given(buckets, buckets)
def test_negate_undoes_merge(one: DayBucket, two: DayBucket) -> None:
    assert merge(merge(one, two), negate(two)) == one
    assert negate(negate(one)) == one


# --- tiers ----------------------------------------------------------------------------------------------------------

shares = st.lists(
    st.one_of(st.sampled_from(("0.80", "0.95", "1", "0.5", "0.000000001")).map(Fraction), st.fractions(0, 1)),
    min_size=2,
    max_size=2,
).map(sorted)
amounts = st.one_of(
    st.sampled_from((0, 1, 5, 15, 80, 100)),
    st.integers(-100, 100),
    st.integers(2**61, 2**65),
    st.integers(-(10**30), 10**30),
)
populations = st.lists(amounts, max_size=30)


def naive(values: list[int], ids: list[str], share_a: Fraction, share_b: Fraction) -> list[str]:
    """By the words of the contract, one customer at a time."""
    ranked = sorted((-value, customer_id) for value, customer_id in zip(values, ids, strict=True) if value > 0)
    total = -sum(value for value, _ in ranked)
    tiers = {}
    for place, (_, customer_id) in enumerate(ranked):
        before = -sum(value for value, _ in ranked[:place])
        tiers[customer_id] = "A" if before < share_a * total else "B" if before < share_b * total else "C"
    return [tiers.get(customer_id, "unrated") for customer_id in ids]


def ranked(values: list[int], share_a: Fraction, share_b: Fraction) -> tuple[list[str], tiering.Ranking]:
    ids = [f"C-{place:02}" for place in range(len(values))]
    rules = TierRules(share_a=share_a, share_b=share_b)
    ranking = tiering.rank(metrics.column(values), [CustomerId(customer_id) for customer_id in ids], rules)
    return ids, ranking


@given(populations, shares)
@example([], [Fraction(4, 5), Fraction(19, 20)])
@example([7], [Fraction(4, 5), Fraction(19, 20)])
@example([5] * 20, [Fraction(4, 5), Fraction(19, 20)])
@example([80, 15, 5], [Fraction(4, 5), Fraction(19, 20)])
@example([0, -3, 0], [Fraction(4, 5), Fraction(19, 20)])
@example([10**40, 1, 1, 1], [Fraction(4, 5), Fraction(19, 20)])
@example([2**61] * 2, [Fraction(1, 2), Fraction(1, 2)])
@example([2**63 - 1, 1, 0, -(2**63)], [Fraction(4, 5), Fraction(1)])
@example([1, 2, 3], [Fraction(1), Fraction(1)])
def test_each_tier_is_the_smallest_prefix_that_reaches_its_share(values: list[int], shares: list[Fraction]) -> None:
    """The crossing customer included, ties by id, exact whatever the size; nobody at or below 0 is rated."""
    ids, ranking = ranked(values, *shares)
    assert [TIERS[rank].value for rank in ranking.tiers] == naive(values, ids, *shares)
    assert ranking.total == sum(value for value in values if value > 0)
    best_first = sorted((value for value in values if value > 0), reverse=True)
    assert [ranking.reached(count) for count in range(len(best_first) + 1)] == [
        sum(best_first[:count]) for count in range(len(best_first) + 1)
    ]


steps = st.lists(
    st.dictionaries(
        st.sampled_from([f"C-{'x' * width}{place}" for place in range(6) for width in (0, 1, 9)]),
        st.one_of(st.integers(-3, 9), st.sampled_from([2**62, 2**63 - 1, 10**30, -(10**30)])),
        max_size=8,
    ),
    max_size=6,
)


@given(steps, shares)
@example([{}, {"a": 1}, {"a": 0}], [Fraction(4, 5), Fraction(19, 20)])
@example([{"b": 5}, {"a": 5, "longer": 2**63}, {"b": 5, "c": 1}], [Fraction(1, 2), Fraction(1, 2)])
def test_a_roster_brought_up_to_date_is_one_made_anew(steps: list[dict[str, int]], shares: list[Fraction]) -> None:
    """Whatever came when, values, tiers and cut-offs are those of everyone's latest value."""
    rules = TierRules(share_a=shares[0], share_b=shares[1])
    kept = tiering.Roster([], metrics.column([]), metrics.column([]))
    latest: dict[str, int] = {}
    standing: dict[str, Tier] = {}
    for step in steps:
        kept.update({CustomerId(name): value for name, value in step.items()})
        latest |= step
        names = sorted(latest)
        ranking = kept.rank(rules)
        assert [kept.customer_id(row) for row in range(len(kept))] == names
        anew = tiering.rank(metrics.column([latest[name] for name in names]), list(map(CustomerId, names)), rules)
        assert (ranking.cutoffs, ranking.total) == (anew.cutoffs, anew.total)
        assert [TIERS[rank].value for rank in ranking.tiers] == naive([latest[name] for name in names], names, *shares)
        assert kept.total == sum(latest.values())
        crossers = kept.crossers(ranking)
        before = dict(standing)
        standing |= {names[row]: tier for row, tier in crossers}
        assert all(before.get(names[row], Tier.UNRATED) is not tier for row, tier in crossers)
        assert [standing.get(name, Tier.UNRATED) for name in names] == [TIERS[rank] for rank in ranking.tiers]
        kept.move(crossers)


@given(populations, shares)
def test_the_cutoffs_assign_what_the_ranking_says(values: list[int], shares: list[Fraction]) -> None:
    ids, ranking = ranked(values, *shares)
    assigned = [ranking.cutoffs.assign(value, CustomerId(name)) for value, name in zip(values, ids, strict=True)]
    assert assigned == [TIERS[rank] for rank in ranking.tiers]
    assert ranking.cutoffs.assign(None, CustomerId("x")) is Tier.UNRATED


@given(st.lists(st.one_of(numbers, st.integers(2**61, 2**64)), max_size=10))
@example([2**62 - 1, 1])
@example([2**63 - 1, -(2**63)])
def test_a_column_holds_and_sums_every_whole_number_exactly(values: list[int]) -> None:
    column = metrics.column(values)
    assert list(column) == values
    assert sum(column.tolist()) == column.sum() == sum(values)


# --- JSON -----------------------------------------------------------------------------------------------------------

_scalars: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from((None, True, False, "", "1", "0", "\x00", "é", "e\u0301", "😀", "\u2028")),
    st.sampled_from((0, 1, 10, 100, -1, 10**18, 2**64, 10**500)),
    st.decimals(allow_nan=False, allow_infinity=False, places=3),
)
json_objects = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abé"), inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def respelled(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Two texts, of one value or of two."""
    value = draw(json_objects)
    other = draw(st.sampled_from((value, value, draw(json_objects))))
    return draw(_spelled(value)).encode(), draw(_spelled(other)).encode()


@given(respelled())
@example((b"1", b"1.0"))
@example((b"1e400", b"10E399"))
@example((b"1e400", b"1e401"))
@example((b"1e-500", b"0"))
@example((b"-0.0", b"0"))
@example((b"true", b"1"))
@example((b"1", b'"1"'))
@example((b'{"a":null}', b"{}"))
@example((b'{"a":1,"a":2}', b'{"a":2}'))
@example((b'"\\u00e9"', '"é"'.encode()))
@example((b'"\\ud83d\\ude00"', '"😀"'.encode()))
@example((b"[0.1]", b'[{"\\ud800":"0.1"}]'))
@example((b"1" * 401, b"1" * 401 + b".0"))
def test_two_texts_have_the_same_fingerprint_exactly_when_they_are_equal_json_values(
    texts: tuple[bytes, bytes],
) -> None:
    try:
        first, second = (read_json(text) for text in texts)
    except NotJson:
        return
    prints = [json_values.fingerprint(json_values.parse(text)) for text in texts]
    assert (prints[0] == prints[1]) == (first == second)


# --- decoding -------------------------------------------------------------------------------------------------------


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A message that was valid until some bytes of it were replaced, taken out, repeated or put in."""
    build, field, values = draw(st.sampled_from(MALFORMED_FIELDS))
    event = build(customer_id=draw(st.sampled_from(CUSTOMER_IDS)))
    if draw(st.booleans()):
        event |= {field: draw(st.sampled_from([value for value in values if value is not builders.ABSENT]))}
    value = builders.as_json(draw(st.sampled_from((event, builders.as_envelope(event)))))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(value)))
        end = min(len(value), start + draw(st.integers(0, 8)))
        piece = draw(st.one_of(st.binary(max_size=4), st.sampled_from(PIECES), st.just(value[start:end] * 2)))
        value = value[:start] + piece + value[end:]
    return value


def read_by(parse: Callable[[bytes], Any], text: bytes) -> str:
    """What a parser makes of a text: the value, its types included, or the refusal in words."""
    try:
        return repr(parse(text))
    except json_values.InvalidJson as refusal:
        return f"refused: {refusal}"


@given(st.one_of(respelled().map(lambda texts: texts[0]), mutated()))
@example(b"1" * 401)
@example(b"[" + b"1" * 401 + b"]")
@example(b"-0.0")
@example(b"18446744073709551616")
@example(b'"\\udc00"')
@example(b"\xef\xbb\xbf{}")
@example(b"[" * 101 + b"]" * 101)
@example(b'{"a":[' * 51)
def test_the_quick_and_the_strict_parser_read_alike(text: bytes) -> None:
    assert read_by(json_values.parse, text) == read_by(json_values.parse_strictly, text)


PIECES = (
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b":",
    b",",
    b"1e9",
    b"-",
    b"null",
    b"\\ud800",
    b"\\u0000",
    b'"specversion":"1.0",',
)
HEADER_NAMES = ("ce_specversion", "ce_id", "ce_type", "ce_time", "ce_subject", "ce_source", "content-type", "x")
BINARY = tuple(
    (name, header.encode())
    for name, header in (
        ("ce_specversion", "1.0"),
        ("ce_id", "1"),
        ("ce_type", "complaint"),
        ("ce_time", "2026-03-01T00:00:00Z"),
    )
)
header_values = st.one_of(
    st.sampled_from((b"1.0", b"order", b"com.example.order", b"2026-03-01T00:00:00Z", b"C-1", b"1", b"", b"a\x00b")),
    st.binary(max_size=3),
)
headers = st.one_of(
    st.just({}),
    st.dictionaries(st.sampled_from(HEADER_NAMES), header_values),
    st.fixed_dictionaries(dict.fromkeys(HEADER_NAMES[:4], header_values)),
).map(lambda named: tuple(named.items()))
values = st.one_of(mutated(), st.binary(max_size=40), st.sampled_from(NOT_JSON), st.sampled_from(NOT_EVENTS))


@given(st.one_of(st.none(), values), headers)
@example(b"[" * 262_144, ())
@example(b'{"a":' * 52_428, ())
@example(b'{"customer_id":"C-1","type":"feedback","score":' + b"9" * 200_000 + b"}", ())
@example(b'{"customer_id":"C-1","type":"feedback","score":1e' + b"9" * 200_000 + b"}", ())
@example(builders.as_json(builders.a_complaint()), (("ce_specversion", b"\xff"),))
@example(b'{"customer_id":"C-1"}', (*BINARY, ("ce_source", b"\xff")))
def test_whatever_the_bytes_decode_returns_what_the_oracle_reads(
    value: bytes | None, headers: tuple[tuple[str, bytes], ...]
) -> None:
    """It never raises; an event where the oracle finds one, else a reject of the same reason.

    Of a CloudEvent in another version than 1.0 an unknown type may be told first or last: both are one step.
    """
    decoded = events.decode(value, headers)
    oracle = Oracle(Setting())
    outcome, reason = oracle.read(Message(value, headers), now=NOW)
    if isinstance(decoded, Reject):
        reasons = {reason, decoded.reason.value}
        other_version = b"specversion" in (value or b"") or dict(headers).get("ce_specversion", b"1.0") != b"1.0"
        assert outcome == "rejected"
        assert len(reasons) == 1 or (other_version and reasons == {"schema", "unknown_type"})
        assert decoded.sentence
    else:
        assert outcome == "applied" or reason in ("too_old", "future", "unknown_currency")


@given(st.one_of(st.none(), values), headers)
@example(b"{}", (("ce_specversion", b"1.0"), ("ce_subject", b"C-1"), ("ce_id", b"\xff")))
@example(b'{"customer_id":"C-1"}', (("ce_specversion", b"\xff"),))
def test_what_decode_returns_carries_the_customer_id_wherever_a_valid_one_can_be_read(
    value: bytes | None, headers: tuple[tuple[str, bytes], ...]
) -> None:
    """So an erased customer is recognised in a bad message too."""
    oracle = Oracle(Setting())
    for customer_id in (*CUSTOMER_IDS, "C-1"):
        oracle.erase(customer_id)
    suppressed = oracle.read(Message(value, headers), now=NOW)[0] == "suppressed"
    assert (events.decode(value, headers).customer_id in oracle.erased) == suppressed


@given(histories(15))
def test_decode_depends_on_the_bytes_and_headers_alone(history: list[Message]) -> None:
    """Not on the messages before it."""
    forwards = [events.decode(message.value, message.headers) for message in history]
    backwards = [events.decode(message.value, message.headers) for message in reversed(history)]
    assert forwards == backwards[::-1]
