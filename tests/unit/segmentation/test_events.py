"""Bytes to events: every limit of every field, and what is said to the person who has to mend a message."""

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from tests.support import builders
from tests.support.builders import (
    ABSENT,
    MODES,
    a_cancellation,
    a_complaint,
    a_customer,
    a_delivery,
    a_feedback,
    a_retraction,
    a_return,
    an_order,
    as_json,
    as_message,
)

from segmentation.calendar import parse_instant
from segmentation.envelopes import Headers
from segmentation.events import (
    MAX_MESSAGE_BYTES,
    NEEDS,
    TYPE_NAMES,
    ComplaintRaised,
    CustomerDescribed,
    DeliveryReported,
    Event,
    EventRetracted,
    FeedbackGiven,
    OrderCancelled,
    OrderPlaced,
    Reject,
    RejectReason,
    ReturnReceived,
    decode,
    event_key,
    fingerprint,
)
from segmentation.fields import GREATEST_WEIGHT_GRAMS

BUILDERS = {
    "order": an_order,
    "order_cancelled": a_cancellation,
    "delivery": a_delivery,
    "return": a_return,
    "complaint": a_complaint,
    "feedback": a_feedback,
    "customer": a_customer,
    "retraction": a_retraction,
}
CLASSES = {name: kind for kind, name in TYPE_NAMES.items()}
NUL = "a\x00b"


class Raw(str):
    """JSON text to be put in as it stands."""

    __slots__ = ()


def told_apart(value: Any) -> str | None:
    """A test's name that tells a number from a string of the same digits."""
    return f"number {value[:30]}" if isinstance(value, Raw) else None


def message(type_name: str, **fields: Any) -> bytes:
    """An event with these fields; `Raw` values digit for digit."""
    raws = {f"<<{name}>>": value for name, value in fields.items() if isinstance(value, Raw)}
    plain = {name: f"<<{name}>>" if isinstance(value, Raw) else value for name, value in fields.items()}
    text = as_json(BUILDERS[type_name](**plain)).decode()
    for mark, raw in raws.items():
        text = text.replace(f'"{mark}"', raw)
    return text.encode()


def read(type_name: str, **fields: Any) -> Event | Reject:
    return decode(message(type_name, **fields))


def accepted(type_name: str, **fields: Any) -> Any:
    event = read(type_name, **fields)
    assert not isinstance(event, Reject), event.sentence
    return event


def refused(type_name: str, **fields: Any) -> Reject:
    reject = read(type_name, **fields)
    assert isinstance(reject, Reject), reject
    return reject


# --- the whole message ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, b""])
def test_no_value_is_empty(value):
    reject = decode(value)
    assert isinstance(reject, Reject)
    assert reject.reason is RejectReason.EMPTY


def test_the_greatest_message():
    text = as_json(an_order())
    assert isinstance(decode(text.ljust(MAX_MESSAGE_BYTES)), OrderPlaced)
    reject = decode(text.ljust(MAX_MESSAGE_BYTES + 1))
    assert isinstance(reject, Reject)
    assert reject.reason is RejectReason.TOO_LARGE
    assert (MAX_MESSAGE_BYTES, "262145" in reject.sentence) == (262_144, True)


@pytest.mark.parametrize(
    "value",
    [
        b" ",
        b"{",
        b"\xef\xbb\xbf" + as_json(an_order()),
        as_json(an_order()) + b"x",
        as_json(an_order())[:-1] + b',"x":NaN}',
        as_json(an_order())[:-1] + b',"x":-Infinity}',
        as_json(an_order())[:-1] + rb',"x":"\ud800"}',
        as_json(an_order())[:-1] + rb',"\udfff":1}',
        as_json(an_order())[:-1] + b',"x":"\xff"}',
        as_json(an_order())[:-1] + b',"x":' + b"[" * 100 + b"]" * 100 + b"}",
        b"[" * 262_144,
        b'{"a":' * 50_000,
    ],
)
def test_what_is_no_json(value):
    reject = decode(value)
    assert isinstance(reject, Reject)
    assert reject.reason is RejectReason.INVALID_JSON
    assert reject.customer_id is None


def test_a_hundred_levels_are_read():
    deep = as_json(an_order())[:-1] + b',"x":' + b"[" * 99 + b"]" * 99 + b"}"
    assert isinstance(decode(deep), OrderPlaced)


@pytest.mark.parametrize("value", [b"null", b"1", b'"order"', b"true", b"[]", b"[{}]"])
def test_what_is_no_object_is_schema(value):
    reject = decode(value)
    assert isinstance(reject, Reject)
    assert reject.reason is RejectReason.SCHEMA


def test_of_duplicate_keys_the_last_counts():
    event = decode(as_json(an_order())[:-1] + b',"amount":"7.00","amount":"8.00"}')
    assert isinstance(event, OrderPlaced)
    assert event.amount == 8 * 10**9


@pytest.mark.parametrize("type_name", BUILDERS)
def test_each_type_is_read_in_every_mode(type_name):
    events, prints = [], set()
    for mode in MODES:
        sent = as_message(BUILDERS[type_name](), mode=mode)
        assert sent.value is not None
        event = decode(sent.value, sent.headers)
        assert type(event) is CLASSES[type_name]
        events.append(event)
        prints.add(fingerprint(sent.value, sent.headers))
    assert events[0] == events[1] == events[2]
    assert len(prints) == 1
    assert events[0].event_id == BUILDERS[type_name]()["event_id"]
    assert events[0].customer_id == "C-1"
    assert events[0].occurred_at == parse_instant(BUILDERS[type_name]()["occurred_at"])


@pytest.mark.parametrize("type_name", BUILDERS)
def test_unknown_fields_have_no_effect_but_on_the_content(type_name):
    surprise = {"surprise": {"deep": [1, NUL]}}
    assert accepted(type_name) == accepted(type_name, **surprise)
    assert fingerprint(message(type_name)) != fingerprint(message(type_name, **surprise))


@pytest.mark.parametrize(
    ("type_value", "reason"),
    [
        (ABSENT, "schema"),
        (None, "schema"),
        (5, "schema"),
        (["order"], "schema"),
        (NUL, "schema"),
        ("", "unknown_type"),
        ("Order", "unknown_type"),
        ("order ", "unknown_type"),
        ("com.example.order", "unknown_type"),
        ("shipment", "unknown_type"),
    ],
)
def test_the_type_is_one_of_eight(type_value, reason):
    reject = refused("order", type=type_value)
    assert (reject.reason, reject.field, reject.customer_id) == (reason, "type", "C-1")


def test_an_unknown_type_is_told_whatever_else_is_wrong():
    assert refused("order", type="shipment", event_id=None, occurred_at=5).reason is RejectReason.UNKNOWN_TYPE


# --- fields by kind -------------------------------------------------------------------------------------------------

REQUIRED = {
    "order": ("order_id", "amount", "currency"),
    "order_cancelled": ("order_id",),
    "delivery": ("order_id",),
    "return": ("amount", "currency"),
    "complaint": (),
    "feedback": ("score",),
    "customer": (),
    "retraction": ("retracts",),
}
TEXTS = {
    "order": ("region", "channel"),
    "order_cancelled": ("reason",),
    "delivery": ("exception",),
    "return": ("reason",),
    "complaint": ("category", "text"),
    "feedback": ("text",),
    "customer": ("name", "region", "channel", "account_manager", "contract_type"),
    "retraction": ("reason",),
}
INSTANTS = {
    "order": ("occurred_at", "ordered_at", "promised_at", "delivered_at"),
    "delivery": ("occurred_at", "promised_at", "picked_up_at", "delivered_at"),
    "complaint": ("occurred_at",),
}
SHORT_IDS = [
    *((name, "event_id", 128) for name in BUILDERS),
    *((name, "order_id", 64) for name in ("order", "order_cancelled", "delivery", "return", "complaint")),
    ("retraction", "retracts", 128),
]


@pytest.mark.parametrize(
    ("type_name", "field"),
    [(name, field) for name in BUILDERS for field in ("event_id", "customer_id", "occurred_at", *REQUIRED[name])],
)
@pytest.mark.parametrize("value", [ABSENT, None])
def test_a_required_field_is_required(type_name, field, value):
    reject = refused(type_name, **{field: value})
    assert (reject.reason, reject.field) == ("schema", field)
    assert reject.sentence.startswith(f"{field} is missing; ")


@pytest.mark.parametrize(("type_name", "field", "longest"), SHORT_IDS)
def test_ids_have_one_to_so_many_code_points(type_name, field, longest):
    for value in ("x", "é" * longest, "😀" * longest, " ", "\n"):
        accepted(type_name, **{field: value})
    for value in ("", "x" * (longest + 1), "😀" * (longest + 1), NUL, 5, ["x"], True):
        reject = refused(type_name, **{field: value})
        assert (reject.reason, reject.field) == ("schema", field)


@pytest.mark.parametrize("value", ["C", "0", "C" * 64, "a.b_c:d-e", "A0._:-", "Z" + "-" * 63])
def test_customer_ids(value):
    assert accepted("order", customer_id=value).customer_id == value


@pytest.mark.parametrize(
    "value", ["", "C" * 65, "-C", ".C", "_C", ":C", "C 1", "C/1", "C-1\n", " C-1", "Ç", "C１", "C\x001", 1, ["C-1"]]
)
def test_what_is_no_customer_id(value):
    reject = refused("order", customer_id=value)
    assert (reject.reason, reject.field, reject.customer_id) == ("schema", "customer_id", None)


@pytest.mark.parametrize(("type_name", "field"), [(name, field) for name, fields in TEXTS.items() for field in fields])
def test_texts_are_any_string_but_u0000(type_name, field):
    for value in ("", "😀\ud7ff", "x" * 10_000, None, ABSENT):
        accepted(type_name, **{field: value})
    wrong: Any
    for wrong in (NUL, 5, True, ["x"], {}):
        reject = refused(type_name, **{field: wrong})
        assert (reject.reason, reject.field) == ("schema", field)


@pytest.mark.parametrize(
    ("type_name", "field"), [(name, field) for name, fields in INSTANTS.items() for field in fields]
)
def test_instants(type_name, field):
    for value in ("2026-03-01t12:00:00.123456789+23:59", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"):
        accepted(type_name, **{field: value})
    for wrong in ("", "2026-03-01", "2026-03-01T12:00:60Z", "2026-03-01T24:00:00Z", "2026-02-29T00:00:00Z", 0, NUL):
        reject = refused(type_name, **{field: wrong})
        assert (reject.reason, reject.field) == ("schema", field)


def test_digits_beyond_microseconds_are_cut_off():
    event = accepted("order", promised_at="2026-03-01T00:00:00.123456999Z")
    assert event.promised_at == parse_instant("2026-03-01T00:00:00.123456Z")


# --- money ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "currency", "billionths"),
    [
        ("0", "CNY", 0),
        ("1.5", "CNY", 1_500_000_000),
        ("1.500", "CNY", 1_500_000_000),
        ("1.500000000", "CNY", 1_500_000_000),
        ("000000000001.50", "CNY", 1_500_000_000),
        ("999999999999.99", "CNY", 999_999_999_999_990_000_000),
        (Raw("1e2"), "CNY", 100 * 10**9),
        (Raw("1E+2"), "CNY", 100 * 10**9),
        (Raw("150e-2"), "CNY", 1_500_000_000),
        (Raw("-0"), "CNY", 0),
        (Raw("-0.0e5"), "CNY", 0),
        (Raw("1.50000000000000000000"), "CNY", 1_500_000_000),
        (Raw("1." + "0" * 500), "CNY", 10**9),
        (Raw("0.1"), "CNY", 100_000_000),
        (Raw("999999999999.99"), "CNY", 999_999_999_999_990_000_000),
        (Raw("99999999999999e-2"), "CNY", 999_999_999_999_990_000_000),
        ("7", "JPY", 7 * 10**9),
        ("7.000", "JPY", 7 * 10**9),
        ("1.005", "KWD", 1_005_000_000),
        ("1.0005", "CLF", 1_000_500_000),
        ("1.123456789", "XAU", 1_123_456_789),
    ],
    ids=told_apart,
)
def test_amounts(value, currency, billionths):
    assert accepted("order", amount=value, currency=currency).amount == billionths
    assert accepted("return", amount=value, currency=currency).amount == billionths
    assert accepted("order", cost=value, currency=currency, amount="0").cost == billionths


@pytest.mark.parametrize(
    ("value", "currency"),
    [
        *[(text, "CNY") for text in ("", " 1", "1 ", "+1", "-1", "-0", "1.", ".5", "1e2", "1,5", "1_0", "０", "1\n")],
        *[(text, "CNY") for text in ("1000000000000", "0000000000001", "1.0000000000", "Infinity", "NaN", "0x1", NUL)],
        *[(Raw(text), "CNY") for text in ("-1", "-0.01", "1e12", "1000000000000", "1e400", "1e-400", "-1e400")],
        *[(Raw(text), "CNY") for text in ("true", "false", "[]", "{}", '["1"]', "1.005", "1e-3", "0.0000000001")],
        ("1.005", "CNY"),
        ("0.5", "JPY"),
        (Raw("1e-1"), "JPY"),
        ("1.0005", "KWD"),
        ("1.00005", "CLF"),
    ],
    ids=told_apart,
)
def test_what_is_no_amount(value, currency):
    for field in ("amount", "cost"):
        fields = {"amount": "0", field: value}
        reject = refused("order", currency=currency, **fields)
        assert (reject.reason, reject.field) == ("schema", field)


@pytest.mark.parametrize("value", ["", "cny", "CN", "CNYX", "CN1", "ＣNY", "CNY\n", NUL, 156, ["CNY"]])
def test_what_is_no_currency_code(value):
    for type_name in ("order", "return"):
        reject = refused(type_name, currency=value)
        assert (reject.reason, reject.field) == ("schema", "currency")


def test_whether_a_currency_is_known_is_not_decodings_business():
    assert accepted("order", currency="ABC").currency == "ABC"


def test_without_a_cost_there_is_none():
    assert accepted("order").cost is None
    assert accepted("order", cost=None).cost is None
    assert accepted("order", cost="0").cost == 0


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("type_name", "field"), [("order", "items"), ("order", "parcels"), ("return", "items")])
def test_counts_are_integers_to_a_billion(type_name, field):
    for value in (0, 10**9, Raw("1.0"), Raw("1e9"), Raw("-0"), Raw("10e-1"), None):
        accepted(type_name, **{field: value})
    for wrong in (-1, 10**9 + 1, Raw("1.5"), Raw("1e400"), Raw("1e-400"), "1", True, False, [1], Raw("9" * 5_000)):
        reject = refused(type_name, **{field: wrong})
        assert (reject.reason, reject.field) == ("schema", field)


def test_an_absent_number_adds_nothing():
    event = accepted("order")
    assert (event.items, event.parcels, event.weight_grams) == (0, 0, 0)
    event = accepted("order", items=None, parcels=None, weight_kg=None)
    assert (event.items, event.parcels, event.weight_grams) == (0, 0, 0)


def test_severity_is_an_integer_from_1_to_5():
    for value in (1, 5, Raw("5.0"), Raw("50e-1"), None):
        assert isinstance(read("complaint", severity=value), ComplaintRaised)
    wrong: Any
    for wrong in (0, 6, Raw("1.5"), "3", True, []):
        assert refused("complaint", severity=wrong).field == "severity"


@pytest.mark.parametrize(
    ("value", "grams"),
    [
        (0, 0),
        (Raw("-0.0"), 0),
        (Raw("0.001"), 1),
        (Raw("12.345"), 12_345),
        (Raw("12.34500000"), 12_345),
        (Raw("1e-3"), 1),
        (Raw("1e30"), 10**33),
        (Raw("1e400"), GREATEST_WEIGHT_GRAMS),
        (Raw("9" * 5_000), GREATEST_WEIGHT_GRAMS),
        (Raw("1e999999"), GREATEST_WEIGHT_GRAMS),
    ],
    ids=told_apart,
)
def test_weights(value, grams):
    assert accepted("order", weight_kg=value).weight_grams == grams


@pytest.mark.parametrize(
    "value", [-1, Raw("-0.001"), Raw("0.0001"), Raw("1e-4"), Raw("1e-400"), Raw("-1e400"), "1", True], ids=told_apart
)
def test_what_is_no_weight(value):
    reject = refused("order", weight_kg=value)
    assert (reject.reason, reject.field) == ("schema", "weight_kg")


@pytest.mark.parametrize("value", ["0", "10", "-0", "9.99", "10.000", "1e1", "1e-400", "0." + "3" * 450, "100e-1"])
def test_scores_are_any_number_from_0_to_10(value):
    event = accepted("feedback", score=Raw(value))
    assert isinstance(event, FeedbackGiven)
    assert 0 <= event.score <= 10


@pytest.mark.parametrize(
    "value",
    ["-1", "-0.0001", "-1e-999", "10.0001", "11", "1e400", "-1e400", "1e99999", "true", '"5"', "[]", "9" * 500],
)
def test_what_is_no_score(value):
    reject = refused("feedback", score=Raw(value))
    assert (reject.reason, reject.field) == ("schema", "score")


@pytest.mark.parametrize("zeros", [10, 398, 399, 450, 5_000])
def test_a_score_a_little_above_10_is_above_10(zeros):
    """However many digits it takes to see it."""
    assert refused("feedback", score=Raw("10." + "0" * zeros + "1")).field == "score"


def test_a_score_is_the_double_it_is_nearest_to():
    """Half way between two doubles every further digit decides, however far behind."""
    halfway = "5.000000000000000444089209850062616169452667236328125"
    assert Fraction(halfway) == 5 + Fraction(1, 2**51)
    above = accepted("feedback", score=Raw(halfway + "0" * 400 + "1"))
    assert float(Fraction(above.score)) == 5 + 2**-50


def test_scores_are_exact():
    assert accepted("feedback", score=Raw("0.1")).score == Decimal("0.1")


# --- enumerations, lists, groups ------------------------------------------------------------------------------------

CHOICES = {
    ("feedback", "kind"): ("nps", "csat", "survey"),
    ("customer", "subject_type"): ("company", "person"),
    ("customer", "industry"): ("manufacturing", "retail", "ecommerce", "pharma", "electronics", "other"),
}


@pytest.mark.parametrize(("place", "choices"), CHOICES.items())
def test_enumerations_are_closed(place, choices):
    type_name, field = place
    for value in (*choices, None):
        accepted(type_name, **{field: value})
    for value in ("", choices[0].upper(), choices[0] + " ", "unheard", NUL, 1, [choices[0]]):
        reject = refused(type_name, **{field: value})
        assert (reject.reason, reject.field) == ("schema", field)


def test_services_are_open_codes():
    assert accepted("order", services=["express", "", "hovercraft", "express"]).services == (
        "express",
        "",
        "hovercraft",
        "express",
    )
    assert accepted("order", services=[]).services == accepted("order", services=None).services == ()
    for value in ("express", [1], [None], [NUL], [["express"]], {"express": True}, True):
        assert refused("order", services=value).field == "services"


def test_a_customer_event_names_what_it_sets():
    event = accepted(
        "customer",
        name="Acme",
        region=None,
        contract_end="2027-12-31",
        needs={"basic": ["express"], "latent": None, "surprise": 5},
        attributes={"dock": "7", "": "x", "a.b": None},
    )
    assert isinstance(event, CustomerDescribed)
    assert event.fields == {
        "name": "Acme",
        "region": None,
        "contract_end": "2027-12-31",
        "needs.basic": ["express"],
        "needs.latent": None,
        "attributes.dock": "7",
        "attributes.": "x",
        "attributes.a.b": None,
    }


def test_null_groups_clear_everything_below_them():
    assert accepted("customer", needs=None, attributes=None).fields == {"needs": None, "attributes": None}
    assert accepted("customer", needs={}, attributes={}).fields == {}
    assert accepted("customer").fields == {}
    assert NEEDS == ("basic", "expected", "latent")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"contract_end": "2027-12-31T00:00:00Z"}, "contract_end"),
        ({"contract_end": "2027-02-29"}, "contract_end"),
        ({"contract_end": ""}, "contract_end"),
        ({"needs": []}, "needs"),
        ({"needs": "express"}, "needs"),
        ({"needs": {"basic": "express"}}, "needs.basic"),
        ({"needs": {"expected": [1]}}, "needs.expected"),
        ({"needs": {"latent": [NUL]}}, "needs.latent"),
        ({"attributes": []}, "attributes"),
        ({"attributes": {"dock": 7}}, "attributes.dock"),
        ({"attributes": {"dock": ["7"]}}, "attributes.dock"),
        ({"attributes": {"dock": NUL}}, "attributes.dock"),
        ({"attributes": {NUL: "7"}}, "attributes.a\\0b"),
    ],
)
def test_what_does_not_fit_a_profile(fields, named):
    reject = refused("customer", **fields)
    assert (reject.reason, reject.field) == ("schema", named)


def test_null_is_absent_but_for_the_content():
    nulls = {"region": None, "items": None, "ordered_at": None}
    absent, null = accepted("order"), accepted("order", **nulls)
    assert (null.region, null.items, null.ordered_at) == (absent.region, absent.items, absent.ordered_at)
    assert fingerprint(message("order")) != fingerprint(message("order", **nulls))


def test_each_type_keeps_what_it_counts_by():
    assert isinstance(accepted("order_cancelled", order_id="O-9"), OrderCancelled)
    delivery = accepted("delivery", promised_at=None, delivered_at="1970-01-01T00:00:01Z")
    assert isinstance(delivery, DeliveryReported)
    assert (delivery.promised_at, delivery.delivered_at) == (None, 1_000_000)
    assert isinstance(accepted("return"), ReturnReceived)
    retraction = accepted("retraction", retracts="r-1")
    assert isinstance(retraction, EventRetracted)
    assert retraction.retracts == "r-1"
    assert retraction.key == event_key("retraction-1") != event_key("r-1")


# --- CloudEvents ----------------------------------------------------------------------------------------------------

DATA = {"order_id": "O-1", "amount": "1", "currency": "CNY"}
ATTRIBUTES = {
    "specversion": "1.0",
    "id": "e-1",
    "type": "com.example.order",
    "time": "2026-03-01T12:00:00Z",
    "subject": "C-1",
}


def structured(data: Any = None, **attributes: Any) -> Event | Reject:
    envelope = {**ATTRIBUTES, "source": "/erp", "data": {**DATA} if data is None else data, **attributes}
    return decode(as_json({name: value for name, value in envelope.items() if value is not ABSENT}))


def binary(data: Any = None, **attributes: Any) -> Event | Reject:
    given = {**ATTRIBUTES, **attributes}
    headers = [
        (f"ce_{name}", v if isinstance(v, bytes) else v.encode()) for name, v in given.items() if v is not ABSENT
    ]
    return decode(as_json({**DATA} if data is None else data), tuple(headers))


@pytest.mark.parametrize("send", [structured, binary])
def test_attributes_become_fields(send):
    event = send()
    assert isinstance(event, OrderPlaced)
    assert (event.event_id, event.customer_id, event.order_id) == ("e-1", "C-1", "O-1")


@pytest.mark.parametrize("send", [structured, binary])
def test_attributes_win_over_data_but_the_subject_does_not(send):
    event = send(
        {**DATA, "event_id": "other", "type": "return", "occurred_at": "nonsense", "customer_id": "C-9"}, subject="C-1"
    )
    assert isinstance(event, OrderPlaced)
    assert (event.event_id, event.customer_id) == ("e-1", "C-9")
    event = send({**DATA, "customer_id": None})
    assert isinstance(event, OrderPlaced)
    assert event.customer_id == "C-1"


@pytest.mark.parametrize("send", [structured, binary])
def test_an_unreadable_customer_in_data_is_not_mended_by_the_subject(send):
    reject = send({**DATA, "customer_id": "no id"})
    assert isinstance(reject, Reject)
    assert (reject.field, reject.customer_id) == ("customer_id", None)


@pytest.mark.parametrize("send", [structured, binary])
@pytest.mark.parametrize("type_name", ["order", ".order", "com.example.order", "a..order"])
def test_the_type_is_what_follows_the_last_dot(send, type_name):
    assert isinstance(send(type=type_name), OrderPlaced)


@pytest.mark.parametrize("send", [structured, binary])
@pytest.mark.parametrize("type_name", ["", "order.", "com.example.Order", "com.example.order.v1"])
def test_a_type_that_is_none(send, type_name):
    reject = send(type=type_name)
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.customer_id) == ("unknown_type", "C-1")


@pytest.mark.parametrize("send", [structured, binary])
@pytest.mark.parametrize("attribute", ["id", "type", "time"])
def test_the_attributes_that_are_required(send, attribute):
    reject = send(**{attribute: ABSENT})
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.field, reject.customer_id) == ("schema", attribute, "C-1")


@pytest.mark.parametrize("send", [structured, binary])
@pytest.mark.parametrize("version", ["0.3", "1", "1.0.2", "2.0", ""])
def test_another_version_is_schema(send, version):
    reject = send(specversion=version)
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.field, reject.customer_id) == ("schema", "specversion", "C-1")


@pytest.mark.parametrize("data", ["text", [DATA], 5, True])
def test_data_is_an_object(data):
    for reject in (structured(data), binary(data), structured(data=ABSENT)):
        assert isinstance(reject, Reject)
        assert (reject.reason, reject.field, reject.customer_id) == ("schema", "data", "C-1")


def test_batch_mode_is_schema():
    reject = decode(as_json([{**ATTRIBUTES, "data": DATA}]))
    assert isinstance(reject, Reject)
    assert reject.reason is RejectReason.SCHEMA


@pytest.mark.parametrize("missing", ["time", "id"])
def test_an_unknown_type_in_an_envelope_is_told_whatever_else_is_wrong(missing):
    """As in a plain message: any type that is a string and none of the eight is `unknown_type`."""
    for reject in (structured(type="x.shipment", **{missing: ABSENT}), structured("text", type="x.shipment")):
        assert isinstance(reject, Reject)
        assert reject.reason is RejectReason.UNKNOWN_TYPE


def test_other_attributes_are_ignored_also_for_content():
    plain = structured()
    assert plain == structured(source="/other", dataschema="x", traceparent=NUL, datacontenttype="text/plain")
    assert plain == binary() == binary(source="/other", partitionkey="7")


def test_an_ignored_header_may_hold_any_bytes():
    """Other attributes are ignored: what is in them cannot make the message wrong."""
    assert binary(source=b"\xff") == binary()


@pytest.mark.parametrize("name", ["id", "type", "time", "specversion"])
def test_a_header_that_is_read_must_be_text(name):
    reject = binary(**{name: b"\xff"})
    assert isinstance(reject, Reject)
    assert reject.reason is RejectReason.SCHEMA
    assert reject.customer_id == "C-1"


def test_the_customer_is_read_where_another_header_is_no_text():
    """So that an erased customer is recognised in a bad message too."""
    reject = binary({**DATA, "customer_id": "C-7"}, id=b"\xff")
    assert isinstance(reject, Reject)
    assert reject.customer_id == "C-7"


def test_a_header_without_a_value_is_absent():
    """The broker allows null there; whatever comes, decoding returns."""
    headers: list[Any] = [(f"ce_{name}", value.encode()) for name, value in ATTRIBUTES.items()]
    headers.append(("ce_source", None))
    assert isinstance(decode(as_json(DATA), tuple(headers)), OrderPlaced)
    headers[1] = ("ce_id", None)
    assert isinstance(decode(as_json(DATA), tuple(headers)), Reject)


def test_headers_of_other_kinds_mean_nothing():
    headers: Headers = (("content-type", b"\xff"), ("traceparent", b""), ("ce_id", b"not-a-cloud-event"))
    assert decode(as_json(an_order()), headers) == decode(as_json(an_order()))


def test_a_null_specversion_is_absent():
    assert isinstance(read("order", specversion=None), OrderPlaced)


# --- what is said ---------------------------------------------------------------------------------------------------

SENTENCES = [
    ("order", {"items": -1}, "items", "-1", "0 to 1000000000"),
    ("order", {"amount": "1,5"}, "amount", "'1,5'", '"120.50"'),
    ("order", {"amount": "1.005"}, "amount", "'1.005'", "CNY has 2 decimals"),
    ("order", {"currency": "yuan"}, "currency", "'yuan'", "such as CNY"),
    ("order", {"order_id": "x" * 65}, "order_id", "'xxx", "1 to 64 characters"),
    ("order", {"event_id": ""}, "event_id", "''", "1 to 128 characters"),
    ("order", {"customer_id": "C 1"}, "customer_id", "'C 1'", "A-Z a-z 0-9"),
    ("order", {"occurred_at": "yesterday"}, "occurred_at", "'yesterday'", "2026-03-01T08:30:00Z"),
    ("order", {"weight_kg": Raw("0.0001")}, "weight_kg", "0.0001", "at most 3 decimals"),
    ("order", {"services": "express"}, "services", "'express'", '["express"]'),
    ("order", {"region": 5}, "region", "5", "a string"),
    ("order", {"parcels": True}, "parcels", "true", "a number"),
    ("order", {"region": NUL}, "region", "'a\\x00b'", "U+0000"),
    ("order", {"amount": {}}, "amount", "an object", '"120.50"'),
    ("order", {"amount": Raw("1e400")}, "amount", "a number of more than 400 digits", '"120.50"'),
    ("order", {"type": "shipment"}, "type", "'shipment'", "order_cancelled"),
    ("complaint", {"severity": 6}, "severity", "6", "1 to 5"),
    ("feedback", {"score": 11}, "score", "11", "0 to 10"),
    ("feedback", {"kind": "smile"}, "kind", "'smile'", "nps, csat, survey"),
    ("customer", {"industry": "mining"}, "industry", "'mining'", "pharma"),
    ("customer", {"contract_end": "soon"}, "contract_end", "'soon'", "2026-03-01"),
    ("customer", {"needs": {"basic": 1}}, "needs.basic", "1", '["express"]'),
    ("customer", {"attributes": 1}, "attributes", "1", "an object"),
]


@pytest.mark.parametrize(("type_name", "fields", "field", "value", "remedy"), SENTENCES)
def test_a_sentence_names_field_value_and_remedy(type_name, fields, field, value, remedy):
    reject = refused(type_name, **fields)
    assert reject.field == field
    assert reject.sentence.startswith(f"{field} is ")
    assert value in reject.sentence
    assert remedy in reject.sentence.partition(value)[2]
    assert reject.sentence.endswith(".")


def test_a_reject_says_whose_and_which_it_is():
    reject = refused("order", event_id="e" * 200, items=-1)
    assert (reject.customer_id, reject.event_id) == ("C-1", "e" * 128)
    assert "\x00" not in str(refused("order", event_id=NUL).event_id)


@pytest.mark.parametrize(
    "fields",
    [
        {"amount": "9" * 100_000},
        {"amount": Raw("9" * 100_000)},
        {"type": "x" * 100_000},
        {"type": "\n\x1b[31m\u202e"},
        {"region": ["x" * 100_000]},
    ],
)
def test_a_sentence_stays_short_and_printable(fields):
    sentence = refused("order", **fields).sentence
    assert len(sentence) <= 500
    assert sentence.isprintable()


def test_names_of_any_length_are_cut():
    reject = refused("customer", attributes={"k" * 100_000: 5})
    assert reject.field is not None
    assert len(reject.field) <= 500
    assert len(reject.sentence) <= 500


@pytest.mark.timeout(2)
def test_no_number_takes_long_to_read():
    """A quarter of a megabyte of digits is refused, or read, about as fast as any other message."""
    accepted("feedback", surprise=Raw("1e-" + "9" * 260_000))
    refused("feedback", score=Raw("1e" + "9" * 260_000))


def test_the_builders_are_all_there():
    assert set(BUILDERS) == set(TYPE_NAMES.values()) == set(CLASSES)
    assert json.loads(as_json(builders.an_order()))["type"] == "order"
