"""Exact money and the rates it is converted at."""

from datetime import date

import pytest

from segmentation.errors import RatesInvalid
from segmentation.money import MINOR_UNITS, Rate, Rates, format_minor, parse_rates, round_half_even

BILLION = 10**9


@pytest.mark.parametrize(
    ("numerator", "rounded"),
    [(-5, -2), (-4, -2), (-3, -2), (-2, -1), (-1, 0), (0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 2), (7, 4)],
)
def test_halves_go_to_the_even_neighbour(numerator, rounded):
    assert round_half_even(numerator, 2) == rounded


@pytest.mark.parametrize(
    ("numerator", "denominator", "rounded"),
    [
        (-7, 3, -2),
        (-8, 3, -3),
        (7, 3, 2),
        (8, 3, 3),
        (10**40 + 1, 2 * 10**20, 5 * 10**19),
        (-(10**30) - 1, 2, -(10**30) // 2),
    ],
)
def test_the_nearest_integer_of_any_size(numerator, denominator, rounded):
    assert round_half_even(numerator, denominator) == rounded


@pytest.mark.parametrize(
    ("minor_units", "decimals", "text"),
    [
        (0, 2, "0.00"),
        (0, 0, "0"),
        (1, 2, "0.01"),
        (-1, 2, "-0.01"),
        (-100, 2, "-1.00"),
        (1_234, 0, "1234"),
        (-5, 0, "-5"),
        (1, 4, "0.0001"),
        (12_345, 3, "12.345"),
        (10**30, 2, "1" + "0" * 28 + ".00"),
    ],
)
def test_money_is_shown_with_the_currencys_decimals(minor_units, decimals, text):
    assert format_minor(minor_units, decimals) == text


@pytest.mark.parametrize(("currency", "decimals"), [("JPY", 0), ("CNY", 2), ("GBP", 2), ("KWD", 3), ("CLF", 4)])
def test_minor_units_are_those_of_iso_4217(currency, decimals):
    assert MINOR_UNITS[currency] == decimals


@pytest.mark.parametrize("code", ["XAU", "XXX", "XTS", "XDR", "ABC", "cny", ""])
def test_codes_without_a_minor_unit_are_no_money(code):
    assert code not in MINOR_UNITS
    assert Rates.of("CNY", []).find(code, date(2026, 1, 1)) is None


def test_a_rate_applies_from_its_day_until_the_next():
    rates = Rates.of("CNY", [Rate("USD", date(2026, 3, 1), 8), Rate("USD", date(2026, 1, 1), 7)])
    days = [date(2025, 12, 31), date(2026, 1, 1), date(2026, 2, 28), date(2026, 3, 1), date(2030, 1, 1)]
    assert [rates.find("USD", day) for day in days] == [None, 7, 7, 8, 8]
    assert rates.find("EUR", date(2026, 3, 1)) is None
    assert rates.find("CNY", date.min) == 10**12


def test_conversion_rounds_once_half_to_even():
    rates = Rates.of("CNY", [])
    half = 10**12 // 2
    assert [rates.convert(cents * BILLION // 100, half) for cents in (1, 3, 5, -1, -3)] == [0, 2, 2, 0, -2]
    assert rates.convert(BILLION, 10**12) == 100
    assert Rates.of("JPY", []).convert(BILLION * 3 // 2, 10**12) == 2
    assert Rates.of("CLF", []).convert(1, 10**18) == 10


def test_rates_are_read_exactly():
    lines = [
        "Currency, DAY ,rate",
        "USD,2026-03-01,7.123456789012",
        "",
        " JPY , 2026-03-01 , 0.05 ",
        "USD,2026-03-02,8",
    ]
    assert parse_rates(lines, base_currency="CNY") == [
        Rate("USD", date(2026, 3, 1), 7_123_456_789_012),
        Rate("JPY", date(2026, 3, 1), 50_000_000_000),
        Rate("USD", date(2026, 3, 2), 8 * 10**12),
    ]


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("USD,2026-03-01", "2 fields"),
        ("USD,2026-03-01,7,1", "4 fields"),
        ("usd,2026-03-01,7", "currency is 'usd'"),
        ("XAU,2026-03-01,7", "currency is 'XAU'"),
        (",2026-03-01,7", "currency is ''"),
        ("CNY,2026-03-01,1", "CNY is the base currency"),
        ("USD,2026-02-30,7", "day is '2026-02-30'"),
        ("USD,01.03.2026,7", "day is '01.03.2026'"),
        ("USD,,7", "day is ''"),
        ("USD,2026-03-01,", "rate is ''"),
        ("USD,2026-03-01,-7", "rate is '-7'"),
        ("USD,2026-03-01,7e1", "rate is '7e1'"),
        ("USD,2026-03-01,.5", "rate is '.5'"),
        ("USD,2026-03-01,0.0", "rate is '0.0'"),
        ("USD,2026-03-01,1.1234567890123", "rate is '1.1234567890123'"),
        ("USD,2026-03-01,NaN", "rate is 'NaN'"),
        ("EUR,2026-03-01,8", "EUR has a second rate for 2026-03-01"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(row, named):
    lines = ["currency,day,rate", "EUR,2026-03-01,7.5", row]
    with pytest.raises(RatesInvalid, match=r"^line 3: ") as raised:
        parse_rates(lines, base_currency="CNY")
    assert named in str(raised.value)


@pytest.mark.parametrize("header", [[], [""], ["USD,2026-03-01,7"], ["day,currency,rate"], ["currency;day;rate"]])
def test_the_header_is_required(header):
    with pytest.raises(RatesInvalid, match=r"line 1: the header is .*; it must be currency,day,rate"):
        parse_rates(header, base_currency="CNY")


@pytest.mark.parametrize("day", ["20260301", "2026-W09-7"])
def test_a_day_has_one_spelling(day):
    """The sentence asks for a date such as 2026-03-01: nothing else is one."""
    with pytest.raises(RatesInvalid, match="line 2: day is"):
        parse_rates(["currency,day,rate", f"USD,{day},7"], base_currency="CNY")


def test_a_file_that_is_no_csv_is_refused():
    """Whatever the text, the answer is RatesInvalid and names the line."""
    with pytest.raises(RatesInvalid, match="line 2"):
        parse_rates(["currency,day,rate", f"USD,2026-03-01,{'7' * 200_000}"], base_currency="CNY")
