"""Instants and business days.

An instant is an integer of microseconds since 1970-01-01T00:00Z: it has no upper limit at year
9999 and compares exactly. A business day is the calendar date of an instant in one time zone.
Nothing here knows what time it is.
"""

import functools
import re
import zoneinfo
from datetime import UTC, date, datetime, timedelta

MICROSECONDS = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = _EPOCH.toordinal()
_INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))",
    re.ASCII,
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def parse_instant(text: str) -> int | None:
    """Microseconds since the epoch of an RFC 3339 instant, digits beyond them cut off; None if it is none.

    >>> parse_instant("1970-01-01T08:00:00.0000019+08:00")
    1
    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        return None
    day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    midnight = _midnight(day)
    if midnight is None:
        return None
    seconds = midnight + int(hour) * 3_600 + int(minute) * 60 + int(second)
    if sign is not None:
        offset = int(offset_hours) * 3_600 + int(offset_minutes) * 60
        seconds += offset if sign == "-" else -offset
    return seconds * MICROSECONDS + (int(fraction[:6].ljust(6, "0")) if fraction else 0)


@functools.lru_cache(maxsize=4_096)
def _midnight(day: str) -> int | None:
    """Seconds since the epoch at the beginning of a UTC day; None where there is no such day."""
    try:
        return (date.fromisoformat(day).toordinal() - _EPOCH_ORDINAL) * 86_400
    except ValueError:
        return None


def parse_date(text: str) -> date | None:
    """A calendar date `YYYY-MM-DD`; None if it is none."""
    if not _DATE.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def instant_of(moment: datetime) -> int:
    """The instant of an aware datetime."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment_of(instant: int) -> datetime:
    """The UTC datetime of an instant between the years 1 and 9999."""
    return _EPOCH + timedelta(microseconds=instant)


def format_instant(instant: int) -> str:
    """An instant as a sentence shows it."""
    try:
        return moment_of(instant).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return "before the year 1" if instant < 0 else "after the year 9999"


class BusinessCalendar:
    """Business days in one IANA time zone."""

    def __init__(self, time_zone: str) -> None:
        """Raises zoneinfo.ZoneInfoNotFoundError or ValueError where the name is none of the IANA database."""
        self.time_zone = time_zone
        self._zone = zoneinfo.ZoneInfo(time_zone)
        # Time zones change their offset on full minutes only, so one look-up serves a whole minute.
        self._day_of_minute = functools.lru_cache(maxsize=65_536)(self._look_up)

    def business_day(self, instant: int) -> date:
        """The calendar date of an instant between the years 2 and 9998."""
        return self._day_of_minute(instant // (60 * MICROSECONDS))

    def beginning(self, day: date) -> int:
        """The first instant of a business day: all before it are of earlier days."""
        midnight = (day.toordinal() - _EPOCH_ORDINAL) * 24 * 60
        # No zone is further than 15 hours from UTC; a date that a zone skipped begins with the next one.
        minutes = range(midnight - 15 * 60, midnight + 48 * 60)
        return next(minute for minute in minutes if self._look_up(minute) >= day) * 60 * MICROSECONDS

    def _look_up(self, minute: int) -> date:
        return (_EPOCH + timedelta(minutes=minute)).astimezone(self._zone).date()
