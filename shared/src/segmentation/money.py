"""Exact money: minor units as integers, dated exchange rates, one rounding per amount.

Laws: no binary float ever touches an amount; an amount is rounded once, half to even, when it is
converted; a rate applies from its day until the next one of its currency.

Amounts as they arrive are integers of billionths of their currency's unit (the contract allows
nine decimals), rates integers of 10^-12 base units; what is stored and summed are integers of the
base currency's minor unit. Python's integers have no limit, so neither have the sums.
"""

import bisect
import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from segmentation.calendar import parse_date
from segmentation.errors import RatesInvalid

BILLIONTHS = 10**9
_RATE_DECIMALS = 12
_RATE_SCALE: int = 10**_RATE_DECIMALS
_RATE_PATTERN = re.compile(r"[0-9]{1,18}(\.[0-9]{1,12})?", re.ASCII)

_HEADER = ["currency", "day", "rate"]
_TWO_DECIMALS = """
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD
CDF CHE CHF CHW CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP
GMD GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD
MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR
PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP
TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG ZWL
"""
_NO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"
_FOUR_DECIMALS = "CLF UYW"
MINOR_UNITS: Mapping[str, int] = {
    **dict.fromkeys(_TWO_DECIMALS.split(), 2),
    **dict.fromkeys(_NO_DECIMALS.split(), 0),
    **dict.fromkeys(_THREE_DECIMALS.split(), 3),
    **dict.fromkeys(_FOUR_DECIMALS.split(), 4),
}
"""Decimals of each currency's minor unit (ISO 4217, with the codes withdrawn in recent years, for
older trade). Codes without a minor unit, such as XAU or XXX, are left out: they are no money."""


def round_half_even(numerator: int, denominator: int) -> int:
    """The integer nearest to a fraction, the even one of two equally near.

    >>> [round_half_even(n, 2) for n in (-3, -1, 1, 3, 5)]
    [-2, 0, 0, 2, 2]
    """
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient % 2):
        return quotient + 1
    return quotient


def format_minor(minor_units: int, decimals: int) -> str:
    """Minor units as a decimal string with exactly the currency's decimals; never ``-0``.

    >>> format_minor(-5, 2), format_minor(0, 2), format_minor(1234, 0)
    ('-0.05', '0.00', '1234')
    """
    sign = "-" if minor_units < 0 else ""
    digits = str(abs(minor_units)).rjust(decimals + 1, "0")
    if decimals == 0:
        return sign + digits
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"


@dataclass(frozen=True, slots=True)
class Rate:
    """From `day` on, one unit of `currency` is worth `scaled_rate` * 10^-12 base units."""

    currency: str
    day: date
    scaled_rate: int


@dataclass(frozen=True, slots=True)
class Rates:
    """The base currency and every dated rate into it."""

    base_currency: str
    dated: Mapping[str, tuple[list[date], list[int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, base_currency: str, rates: Iterable[Rate]) -> "Rates":
        dated: dict[str, tuple[list[date], list[int]]] = {}
        for rate in sorted(rates, key=lambda rate: (rate.currency, rate.day)):
            days, scaled = dated.setdefault(rate.currency, ([], []))
            days.append(rate.day)
            scaled.append(rate.scaled_rate)
        return cls(base_currency, dated)

    @property
    def decimals(self) -> int:
        """Decimals of the base currency."""
        return MINOR_UNITS[self.base_currency]

    def find(self, currency: str, day: date) -> int | None:
        """The scaled rate in force on a day; None where the currency has no minor unit or no rate yet."""
        if currency not in MINOR_UNITS:
            return None
        if currency == self.base_currency:
            return _RATE_SCALE
        if currency not in self.dated:
            return None
        days, scaled = self.dated[currency]
        position = bisect.bisect_right(days, day)
        if position == 0:
            return None
        return scaled[position - 1]

    def convert(self, amount_billionths: int, scaled_rate: int) -> int:
        """Base minor units of an amount (which may be negative) at a rate, rounded once."""
        minor_units_in_one: int = 10**self.decimals
        return round_half_even(amount_billionths * scaled_rate * minor_units_in_one, BILLIONTHS * _RATE_SCALE)


def parse_rates(lines: Iterable[str], *, base_currency: str) -> list[Rate]:
    """Reads ``currency,day,rate`` rows under that header.

    Raises:
        RatesInvalid: names the line, the field, its value and what is expected there.
    """
    reader = csv.reader(lines)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise RatesInvalid(f"line {reader.line_num}: this is no CSV ({error})") from None
    header = rows[0] if rows else None
    if header is None or [name.strip().lower() for name in header] != _HEADER:
        raise RatesInvalid(f"line 1: the header is {header!r}; it must be currency,day,rate")
    rates: dict[tuple[str, date], Rate] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        rate = _parse_rate(row, number, base_currency)
        if (rate.currency, rate.day) in rates:
            raise RatesInvalid(f"line {number}: {rate.currency} has a second rate for {rate.day}; keep one of them")
        rates[rate.currency, rate.day] = rate
    return list(rates.values())


def _parse_rate(row: list[str], number: int, base_currency: str) -> Rate:
    if len(row) != len(_HEADER):
        raise RatesInvalid(f"line {number}: {len(row)} fields; three are expected: currency,day,rate")
    currency, day_text, rate_text = (value.strip() for value in row)
    if currency not in MINOR_UNITS:
        raise RatesInvalid(f"line {number}: currency is {currency!r}; an ISO 4217 code such as USD is expected")
    if currency == base_currency:
        raise RatesInvalid(f"line {number}: {currency} is the base currency, its rate is always 1; remove the line")
    day = parse_date(day_text)
    if day is None:
        raise RatesInvalid(f"line {number}: day is {day_text!r}; a date such as 2026-03-01 is expected")
    if not _RATE_PATTERN.fullmatch(rate_text):
        raise RatesInvalid(
            f"line {number}: rate is {rate_text!r}; a positive decimal with at most 12 decimals is expected"
        )
    whole, _, decimals = rate_text.partition(".")
    scaled_rate = int(whole) * _RATE_SCALE + int(decimals.ljust(_RATE_DECIMALS, "0"))
    if scaled_rate == 0:
        raise RatesInvalid(f"line {number}: rate is {rate_text!r}; it must be greater than 0")
    return Rate(currency, day, scaled_rate)
