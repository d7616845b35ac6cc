"""RFC 8259 as the contract reads it: exact numbers, strict text, equality by value.

Laws: no number passes through a binary float; two texts have the same fingerprint exactly when
they are equal JSON values (members unordered, numbers by value, of duplicate keys the last).

msgspec reads what is ordinary, three times as fast as the standard library. Whatever it does not
take, and whatever has very long numbers, goes to the standard library's parser with what that leaves
open: the depth limit, lone surrogates, numbers of any length or exponent, and words for what is wrong.
Both give the same values: a law holds them together.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact
from typing import Any, Final, NoReturn

import msgspec

MAX_DEPTH: Final = 100
_SHORT: Final = 400
"""Numbers with more digits or a larger exponent stay text: nothing sums them, equality is enough."""

_LONG: Final = Context(prec=500_000, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact])

_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?", re.ASCII)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NO_BRACKET = re.compile(r"[^\[\]{}]+")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_LONG_INTEGER = re.compile(rb"[0-9]{%d}" % (_SHORT + 1))
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class InvalidJson(ValueError):
    """The text is not JSON as the contract reads it; the message says why."""


@dataclass(frozen=True, slots=True)
class LongNumber:
    """A number too long for arithmetic, by value: 0.`digits` * 10^`exponent`, no zeros at either end."""

    negative: bool
    digits: str
    exponent: int | Decimal
    """Decimal where it is too long for int() to read quickly."""

    @property
    def canonical(self) -> str:
        return f"{'-' if self.negative else ''}{self.digits}e{self.exponent}"


Number = int | Decimal | LongNumber
"""Integral numbers of up to 400 digits are int, other short ones Decimal, the rest LongNumber: the
class follows from the value alone, so equal numbers are equal Python values."""


def parse(text_bytes: bytes) -> Any:  # noqa: ANN401 - JSON is any value
    """The JSON value of UTF-8 bytes.

    Raises:
        InvalidJson: says what is wrong in words a producer understands.
    """
    if text_bytes.count(b"[") + text_bytes.count(b"{") <= MAX_DEPTH and not _has_long_number(text_bytes):
        try:
            return _QUICK.decode(text_bytes)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # told in our own words below
    return parse_strictly(text_bytes)


def _has_long_number(text_bytes: bytes) -> bool:
    return len(text_bytes) > _SHORT and _LONG_INTEGER.search(text_bytes) is not None


def parse_strictly(text_bytes: bytes) -> Any:  # noqa: ANN401 - JSON is any value
    """`parse` by the standard library alone."""
    try:
        text = text_bytes.decode()
    except UnicodeDecodeError as error:
        raise InvalidJson(f"byte {error.start} is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise InvalidJson("it begins with a byte-order mark")
    _check_depth(text)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InvalidJson(f"{error.msg} at character {error.pos}") from None
    if _SURROGATE_ESCAPE.search(text_bytes):
        _check_surrogates(text)
    return value


def fingerprint(value: Any) -> bytes:  # noqa: ANN401 - JSON is any value
    """16 bytes that are equal exactly for equal JSON values."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_canonical_number)
    return hashlib.blake2b(canonical.encode("ascii"), digest_size=16).digest()


def _canonical_number(number: Decimal | LongNumber) -> dict[str, str]:
    # A lone surrogate is no valid key, so no message can contain this object by itself.
    return {"\ud800": str(number) if isinstance(number, Decimal) else number.canonical}


def _number(text: str) -> Number:
    match = _NUMBER.fullmatch(text)
    assert match is not None, "the parser only passes JSON numbers"  # noqa: S101
    sign, whole, fraction, power = match.groups()
    fraction = fraction or ""
    significant = (whole + fraction).lstrip("0")
    digits = significant.rstrip("0")
    if not digits:
        return 0
    exponent = _add(len(significant) - len(fraction), _integer(power))
    if isinstance(exponent, Decimal) or len(digits) > _SHORT or abs(exponent) > _SHORT:
        return LongNumber(negative=bool(sign), digits=digits, exponent=exponent)
    if exponent >= len(digits):
        return int(sign + digits + "0" * (exponent - len(digits)))
    # The literal has the fewest digits that give the value, so str() of it is canonical.
    return Decimal(f"{sign}{digits}e{exponent - len(digits)}")


def _add(shift: int, power: int | Decimal) -> int | Decimal:
    return shift + power if isinstance(power, int) else _LONG.add(power, shift)


def _integer(text: str | None) -> int | Decimal:
    if not text:
        return 0
    sign, digits = ("-", text[1:]) if text[0] == "-" else ("", text.removeprefix("+"))
    digits = digits.lstrip("0") or "0"
    # int() takes quadratic time, and refuses more than 4,300 digits.
    return int(sign + digits) if len(digits) <= _SHORT else Decimal(sign + digits)


def _short_integer(text: str) -> Number:
    return int(text) if len(text) <= _SHORT else _number(text)


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidJson(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_float=_number, parse_int=_short_integer, parse_constant=_refuse_constant)
_QUICK = msgspec.json.Decoder(float_hook=_number)


def _check_depth(text: str) -> None:
    depth = 0
    for bracket in _NO_BRACKET.sub("", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise InvalidJson(f"it is nested deeper than {MAX_DEPTH}")


def _check_surrogates(text: str) -> None:
    # Outside strings valid JSON has no backslash, so the escapes can be read without parsing again.
    pending_end: int | None = None
    for match in _ESCAPE.finditer(text):
        unit = int(match[1], 16) if match[1] else 0
        if pending_end is not None and (match.start() != pending_end or not 0xDC00 <= unit <= 0xDFFF):  # noqa: PLR2004
            raise InvalidJson("a string has a lone surrogate")
        if pending_end is not None:
            pending_end = None
        elif 0xD800 <= unit <= 0xDBFF:  # noqa: PLR2004
            pending_end = match.end()
        elif 0xDC00 <= unit <= 0xDFFF:  # noqa: PLR2004
            raise InvalidJson("a string has a lone surrogate")
    if pending_end is not None:
        raise InvalidJson("a string has a lone surrogate")
