"""Known fields of a JSON object, read exactly; what does not fit is refused with field, value and remedy.

Laws: null means absent; a boolean is never a number; no amount passes through a binary float; a
refusal's text is fit for any store and terminal, however strange the names in the message were.
"""

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final, NewType

from segmentation import calendar, json_values
from segmentation.json_values import LongNumber
from segmentation.money import BILLIONTHS, MINOR_UNITS

CustomerId = NewType("CustomerId", str)

MONEY_LIMIT: Final = 10**12
GREATEST_WEIGHT_GRAMS: Final = 10**400
"""Counted in place of any greater weight: far beyond the doubles that answers are made of."""

_CUSTOMER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_MONEY = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?", re.ASCII)
_SCORE_DIGITS = 1_200
"""More than any double, or any middle between two, has."""
_SHOWN_CHARACTERS = 500
_SHOWN_VALUE_CHARACTERS = 60


class Refused(Exception):
    """A verdict on the message, which `events.decode` turns into a Reject."""

    def __init__(self, field: str, sentence: str, *, content: Mapping[str, Any] | None = None) -> None:
        super().__init__(printable(sentence))
        self.field = printable(field)
        self.content = content or {}
        """As far as it was read."""


class UnknownType(Refused):
    """The message's type is none of ours."""


def read_customer_id(text: str) -> CustomerId | None:
    """A customer id, or None where the text cannot be one."""
    return CustomerId(text) if _CUSTOMER_ID.fullmatch(text) else None


def printable(text: str) -> str:
    """Text that any store and terminal takes."""
    text = text.replace("\x00", "\\0")
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def shown(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """A value as a sentence shows it."""
    match value:
        case LongNumber():
            return "a number of more than 400 digits"
        case dict():
            return "an object"
        case list():
            return "a list"
        case bool():
            return "true" if value else "false"
        case bytes():
            return "no UTF-8 text"
        case str():
            text = repr(value)
        case _:
            text = str(value)
    return text if len(text) <= _SHOWN_VALUE_CHARACTERS else text[: _SHOWN_VALUE_CHARACTERS - 3] + "..."


class Fields:
    """Reads known fields of a JSON object; whatever does not fit is refused with field, value and remedy."""

    def __init__(self, content: Mapping[str, Any], prefix: str = "") -> None:
        self._content = content
        self._prefix = prefix

    def has(self, name: str) -> bool:
        return name in self._content

    def refuse(self, name: str, expected: str) -> Refused:
        value = self._content.get(name)
        state = "is missing" if value is None else f"is {shown(value)}"
        return Refused(self._prefix + name, f"{self._prefix}{name} {state}; {expected}.")

    def text(self, name: str, *, longest: int | None = None, required: bool = False) -> str | None:
        """A string; with `longest` it has 1 to that many characters."""
        value = self._content.get(name)
        expected = "a string is expected" if longest is None else f"a string of 1 to {longest} characters is expected"
        if value is None and not required:
            return None
        if not isinstance(value, str) or (longest is not None and not 1 <= len(value) <= longest):
            raise self.refuse(name, expected)
        if "\x00" in value:
            raise self.refuse(name, "U+0000 is not allowed in it")
        return value

    def one_of(self, name: str, *choices: str) -> str | None:
        value = self.text(name)
        if value is not None and value not in choices:
            raise self.refuse(name, f"one of {', '.join(choices)} is expected")
        return value

    def customer_id(self) -> CustomerId:
        customer_id = read_customer_id(self.text("customer_id", required=True) or "")
        if customer_id is None:
            raise self.refuse("customer_id", "1 to 64 of A-Z a-z 0-9 . _ : - are expected, a letter or digit first")
        return customer_id

    def instant(self, name: str, *, required: bool = False) -> int | None:
        text = self.text(name, required=required)
        if text is None:
            return None
        instant = calendar.parse_instant(text)
        if instant is None:
            raise self.refuse(name, "an instant with its offset is expected, such as 2026-03-01T08:30:00Z")
        return instant

    def currency(self) -> str:
        currency = self.text("currency", required=True) or ""
        if not _CURRENCY.fullmatch(currency):
            raise self.refuse("currency", "an ISO 4217 code of three capital letters is expected, such as CNY")
        return currency

    def date(self, name: str) -> date | None:
        text = self.text(name)
        day = calendar.parse_date(text) if text is not None else None
        if text is not None and day is None:
            raise self.refuse(name, "a date such as 2026-03-01 is expected")
        return day

    def number(self, name: str, *, required: bool = False) -> json_values.Number | None:
        value = self._content.get(name)
        if value is None and not required:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, Decimal, LongNumber)):
            raise self.refuse(name, "a number is expected")
        return value

    def integer(self, name: str, lowest: int, highest: int) -> int | None:
        value = self.number(name)
        if value is not None and not (isinstance(value, int) and lowest <= value <= highest):
            raise self.refuse(name, f"an integer from {lowest} to {highest} is expected")
        return value

    def money(self, name: str, currency: str, *, required: bool = False) -> int | None:
        """Billionths of the currency's unit."""
        expected = 'an amount is expected, 0 or more, below 10^12, with at most 9 decimals, such as "120.50"'
        value = self._content.get(name)
        if value is None and not required:
            return None
        if isinstance(value, str):
            match = _MONEY.fullmatch(value)
            billionths = match and int(match[1]) * BILLIONTHS + int((match[2] or "").ljust(9, "0"))
        elif isinstance(value, (int, Decimal)) and not isinstance(value, bool):
            billionths = _scaled(value, BILLIONTHS) if value < MONEY_LIMIT else None
        else:
            billionths = None
        if billionths is None:
            raise self.refuse(name, expected)
        decimals = MINOR_UNITS.get(currency)
        if decimals is not None and billionths % 10 ** (9 - decimals):
            raise self.refuse(name, f"{currency} has {decimals} decimals; more are not allowed")
        return billionths

    def weight_grams(self) -> int:
        value = self.number("weight_kg")
        grams: int | None
        if isinstance(value, LongNumber):
            whole_grams = len(value.digits) - value.exponent <= 3  # noqa: PLR2004
            grams = GREATEST_WEIGHT_GRAMS if whole_grams and not value.negative else None
        else:
            grams = _scaled(value or 0, 1_000)
        if grams is None:
            raise self.refuse("weight_kg", "a weight of 0 or more with at most 3 decimals is expected")
        return min(grams, GREATEST_WEIGHT_GRAMS)

    def score(self) -> Decimal:
        value = self.number("score", required=True)
        score = _shortened(value) if isinstance(value, LongNumber) else Decimal(value or 0)
        if not 0 <= score <= 10:  # noqa: PLR2004
            raise self.refuse("score", "a number from 0 to 10 is expected")
        return score

    def codes(self, name: str) -> list[str] | None:
        value = self._content.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(code, str) and "\x00" not in code for code in value):
            raise self.refuse(name, 'a list of codes is expected, such as ["express"]')
        return value

    def members(self, name: str) -> "Fields | None":
        """The fields of an object below this one."""
        value = self._content.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.refuse(name, "an object is expected")
        return Fields(value, f"{self._prefix}{name}.")

    def names(self) -> list[str]:
        return list(self._content)


def _scaled(value: int | Decimal, scale: int) -> int | None:
    """Value * scale as an integer; None where it is negative or has more decimals."""
    if value < 0:
        return None
    numerator, denominator = value.as_integer_ratio()
    scaled, remainder = divmod(numerator * scale, denominator)
    return None if remainder else scaled


def _shortened(number: LongNumber) -> Decimal:
    """A number as a score: what is cut off leaves a digit behind, so that it still decides between two doubles."""
    if number.negative:
        return Decimal(-1)
    if number.exponent > 2:  # noqa: PLR2004 - more digits before the point than 10 has
        return Decimal(11)
    if number.exponent < -_SCORE_DIGITS:
        return Decimal(f"1e-{_SCORE_DIGITS}")
    digits = number.digits if len(number.digits) <= _SCORE_DIGITS else number.digits[:_SCORE_DIGITS] + "1"
    return Decimal(f"0.{digits}e{number.exponent}")
