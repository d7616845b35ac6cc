"""Instants and business days: every spelling that is one, and those that are none."""

from datetime import UTC, date, datetime

import pytest

from segmentation.calendar import BusinessCalendar, instant_of, moment_of, parse_date, parse_instant


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01T00:00:00+00:00", 0),
        ("1970-01-01T00:00:00-00:00", 0),
        ("1970-01-01T08:00:00+08:00", 0),
        ("1969-12-31T12:30:00-11:30", 0),
        ("1970-01-01T00:00:00.1Z", 100_000),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1970-01-01T00:00:00.000001999Z", 1),
        ("1970-01-01T00:00:00.999999999Z", 999_999),
        ("1969-12-31T23:59:59.9999999Z", -1),
        ("1970-01-01T23:59:59+23:59", 59_000_000),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
    ],
)
def test_an_instant_is_microseconds_since_the_epoch(text, instant):
    assert parse_instant(text) == instant


@pytest.mark.parametrize(
    ("text", "beyond"),
    [("0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00Z"), ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59Z")],
)
def test_offsets_may_lead_beyond_the_years_1_and_9999(text, beyond):
    shift = (23 * 3_600 + 59 * 60) * 1_000_000
    edge = parse_instant(beyond)
    assert edge is not None
    assert parse_instant(text) == edge + (shift if text.startswith("9") else -shift)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-03-01",
        "2026-03-01T12:00:00",
        "2026-03-01T12:00Z",
        "2026-03-01 12:00:00Z",
        "2026-03-01T12:00:00 Z",
        " 2026-03-01T12:00:00Z",
        "2026-03-01T12:00:00Z\n",
        "2026-03-01T12:00:60Z",
        "2016-12-31T23:59:60Z",
        "2026-03-01T24:00:00Z",
        "2026-03-01T12:60:00Z",
        "2026-02-29T12:00:00Z",
        "2026-00-01T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-01-00T12:00:00Z",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "-2026-03-01T12:00:00Z",
        "26-03-01T12:00:00Z",
        "2026-3-1T12:00:00Z",
        "20260301T120000Z",
        "2026-W10-7T12:00:00Z",
        "2026-03-01T12:00:00.Z",
        "2026-03-01T12:00:00,5Z",
        "2026-03-01T12:00:00.1234567890Z",
        "2026-03-01T12:00:00+8",
        "2026-03-01T12:00:00+0800",
        "2026-03-01T12:00:00+24:00",
        "2026-03-01T12:00:00+08:60",
        "2026-03-01T12:00:00+08:00:00",
        "2026-03-01T12:00:00UTC",
        "2026-03-01T12:00:00−08:00",
        "２０２６-03-01T12:00:00Z",
        "1772366400",
    ],
)
def test_all_else_is_no_instant(text):
    assert parse_instant(text) is None


@pytest.mark.parametrize("text", ["20260301", "2026-3-1", "2026-02-29", "2026-W10-7", "0000-01-01", "2026-03-01 ", ""])
def test_a_date_has_one_spelling(text):
    assert parse_date(text) is None
    assert parse_date("2026-03-01") == date(2026, 3, 1)


def test_moments_and_instants_convert_exactly():
    moment = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
    assert moment_of(instant_of(moment)) == moment
    assert instant_of(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1


def test_a_business_day_is_looked_up_to_the_microsecond():
    calendar = BusinessCalendar("Asia/Shanghai")
    midnight = instant_of(datetime(2026, 2, 28, 16, tzinfo=UTC))
    assert calendar.business_day(midnight - 1) == date(2026, 2, 28)
    assert calendar.business_day(midnight) == date(2026, 3, 1)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc", "Asia/Shanghai/"])
def test_an_unknown_time_zone_is_refused(name):
    with pytest.raises((KeyError, ValueError, OSError)):
        BusinessCalendar(name)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York", "Pacific/Apia", "Europe/Berlin"])
@pytest.mark.parametrize(
    "day", [date(2026, 3, 8), date(2026, 3, 29), date(2026, 10, 25), date(2011, 12, 31), date(1990, 1, 1)]
)
def test_a_day_begins_with_the_first_instant_that_is_no_earlier_day(zone: str, day: date) -> None:
    business = BusinessCalendar(zone)
    begins = business.beginning(day)
    assert business.business_day(begins) == day
    assert business.business_day(begins - 1) < day


def test_a_day_that_a_zone_skipped_begins_with_the_next_one() -> None:
    business = BusinessCalendar("Pacific/Apia")
    assert business.beginning(date(2011, 12, 30)) == business.beginning(date(2011, 12, 31))
