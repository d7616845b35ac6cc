"""RFC 8259 as the contract reads it."""

from decimal import Decimal

import pytest

from segmentation.json_values import InvalidJson, LongNumber, fingerprint, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-0", 0),
        ("-0.0", 0),
        ("0e999999999999", 0),
        ("1e2", 100),
        ("1E+2", 100),
        ("100e-2", 1),
        ("1.50", Decimal("1.5")),
        ("0.1", Decimal("0.1")),
        ("1e-9", Decimal("1e-9")),
        ("12345678901234567890.5", Decimal("12345678901234567890.5")),
        ("9" * 400, int("9" * 400)),
        ("1e399", 10**399),
    ],
)
def test_numbers_are_exact(text, value):
    parsed = parse(text.encode())
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["1e400", "9" * 401, "-1e999999", "1e-500", "0." + "1" * 401, "1e" + "9" * 5_000])
def test_numbers_beyond_arithmetic_stay_numbers(text):
    assert isinstance(parse(text.encode()), LongNumber)


def test_long_numbers_compare_by_value():
    assert parse(b"1e999") == parse(b"10e998") == parse(b"0.1e1000") == parse(b"1" + b"0" * 999)
    assert parse(b"1e999") != parse(b"-1e999")
    assert parse(b"1e999") != parse(b"1e998")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "[1,]",
        '{"a":1,}',
        "{'a':1}",
        "{a:1}",
        "01",
        "+1",
        ".5",
        "1.",
        "1e",
        "0x1",
        "NaN",
        "Infinity",
        "-Infinity",
        '{"score":NaN}',
        "nul",
        "True",
        "1 2",
        '"a',
        '"\t"',
        '"\x00"',
        '"\\x41"',
        '"\\u12"',
        "// 1",
        "\u00a01",
        "１",
    ],
)
def test_what_is_no_json(text):
    with pytest.raises(InvalidJson):
        parse(text.encode())


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"\xef\xbb\xbf1", "byte-order mark"),
        (b'"\xff"', "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b'"\xc0\x80"', "not UTF-8"),
        ("1".encode("utf-16"), "not UTF-8"),
        (rb'"\ud800"', "lone surrogate"),
        (rb'"\uDC00"', "lone surrogate"),
        (rb'"\ud800\ud800\udc00"', "lone surrogate"),
        (rb'"\udc00\ud800"', "lone surrogate"),
        (rb'"\ud800x\udc00"', "lone surrogate"),
        (rb'["\ud800","\udc00"]', "lone surrogate"),
        (rb'{"\ud800":1}', "lone surrogate"),
        (rb'"\\\ud800"', "lone surrogate"),
        (rb'{"a":"\ud800","a":"b"}', "lone surrogate"),
    ],
)
def test_text_must_be_text(value, why):
    with pytest.raises(InvalidJson, match=why):
        parse(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(rb'"\ud83d\ude00"', "😀"), (rb'"\uD83D\uDE00!"', "😀!"), (rb'"\\ud800"', "\\ud800"), (rb'"\u0000"', "\x00")],
)
def test_what_only_looks_like_a_lone_surrogate(value, text):
    assert parse(value) == text


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_a_hundred_levels_are_the_most(opening, closing):
    def nested(levels: int) -> bytes:
        text: str = opening * levels + "1" + closing * levels
        return text.encode()

    parse(nested(100))
    with pytest.raises(InvalidJson, match="deeper than 100"):
        parse(nested(101))
    with pytest.raises(InvalidJson):
        parse(nested(20_000))


def test_brackets_within_strings_are_no_levels():
    assert parse(('["' + "[{" * 200 + '"]').encode()) == ["[{" * 200]
    assert parse(('["\\"' + "[" * 200 + '"]').encode()) == ['"' + "[" * 200]


def test_many_brackets_side_by_side_are_one_level():
    assert parse(("[" + "[]," * 500 + "[]]").encode()) == [[]] * 501


def test_of_duplicate_keys_the_last_counts():
    assert parse(b'{"a":1,"b":2,"a":3}') == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1,"b":2}', '{"b":2,"a":1}'),
        ("1", "1.0"),
        ("1e400", "10e399"),
        ("0.10", "0.1"),
        ("-0", "0"),
        ('"A"', '"\\u0041"'),
        ('{"a":0,"a":1}', '{"a":1}'),
    ],
)
def test_equal_values_have_one_fingerprint(one, other):
    assert fingerprint(parse(one.encode())) == fingerprint(parse(other.encode()))


def test_different_values_have_different_fingerprints():
    texts = [
        *("1", "1.5", '"1"', '"1.5"', "true", "false", "null", '"null"', '"true"', "0", "-1", "1e400", '"1e400"'),
        *("[]", "{}", "[1]", "[[1]]", "[1,2]", "[2,1]", '{"a":1}', '{"a":"1"}', '{"a":null}', '{"A":1}', '""'),
        *('{"":"1.5"}', '{"number":"1.5"}', "[1.5]", '"\\u00e9"', '"e\\u0301"', "1e-400", "-1e400", "1e401"),
    ]
    values = [parse(text.encode()) for text in texts]
    assert len({fingerprint(value) for value in values}) == len(texts)
