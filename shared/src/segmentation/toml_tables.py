"""A TOML table that knows what it is called and which of its fields were asked for.

Laws: whatever is refused is refused with the table, its row, the field and what is expected there; a field that nobody
asked for is refused too, so that no typing error passes for a setting.
"""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from segmentation.errors import PolicyInvalid

LANGUAGES: Final = ("en", "zh")
_CODE = re.compile(r"[a-z0-9][a-z0-9_]{0,63}", re.ASCII)


def listed(codes: Sequence[str]) -> str:
    """Codes for a sentence."""
    return ", ".join(codes) or "(none: the table is empty)"


class TomlTable:
    """A TOML table that knows what it is called and which of its fields were asked for."""

    def __init__(self, fields: Mapping[str, Any], title: str) -> None:
        self._fields = fields
        self._asked: set[str] = set()
        self.title = title

    def get(self, name: str, kind: type, expected: str) -> Any:  # noqa: ANN401 - of the kind asked for
        self._asked.add(name)
        value = self._fields.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            shown = "is missing" if value is None else f"is {value!r}"
            raise PolicyInvalid(f"{self.title}: {name} {shown}; {expected} is expected")
        return value

    def text(self, name: str) -> str:
        value: str = self.get(name, str, "a text in quotes")
        return value

    def code(self, name: str) -> str:
        value = self.text(name)
        if not _CODE.fullmatch(value):
            raise PolicyInvalid(f"{self.title}: {name} is {value!r}; lower-case letters, digits and _ are expected")
        return value

    def integer(self, name: str, lowest: int, highest: int) -> int:
        value: int = self.get(name, int, f"a whole number from {lowest} to {highest}")
        if not lowest <= value <= highest:
            raise PolicyInvalid(f"{self.title}: {name} is {value}; {lowest} to {highest} is expected")
        return value

    def share(self, name: str, default: str | None = None) -> Fraction:
        value = self.text(name) if default is None or self.has(name) else default
        if not re.fullmatch(r"(0(\.[0-9]{1,9})?|1(\.0{1,9})?)", value, re.ASCII) or not Fraction(value):
            raise PolicyInvalid(f'{self.title}: {name} is {value!r}; a share in quotes is expected, such as "0.80"')
        return Fraction(value)

    def factor(self, name: str) -> Fraction:
        """How many times as much, exactly: text, since TOML's fractions are doubles."""
        value = self.text(name)
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?", value, re.ASCII):
            raise PolicyInvalid(f'{self.title}: {name} is {value!r}; a factor in quotes is expected, such as "1.5"')
        return Fraction(value)

    def names(self, name: str) -> Mapping[str, str]:
        names = TomlTable(self.get(name, dict, "a name in each language"), f"{self.title}, {name}")
        found = {language: names.text(language) for language in LANGUAGES}
        names.finish()
        return found

    def table(self, name: str) -> Mapping[str, Any]:
        value: Mapping[str, Any] = self.get(name, dict, f"a table [{name}]")
        return value

    def rows(self, name: str) -> list["TomlTable"]:
        rows = self.get(name, list, f"at least one row [[{name}]]")
        if not rows or not all(isinstance(row, dict) for row in rows):
            raise PolicyInvalid(f"{self.title}: {name} has no rows; at least one [[{name}]] is expected")
        return [TomlTable(row, f"[[{name}]] row {number}") for number, row in enumerate(rows, start=1)]

    def has(self, name: str) -> bool:
        """Whether the field is given; for those that may be left out."""
        return name in self._fields

    def optional_integer(self, name: str, lowest: int, highest: int) -> int | None:
        return self.integer(name, lowest, highest) if self.has(name) else None

    def flag(self, name: str) -> bool:
        """True or false; false where it is left out."""
        self._asked.add(name)
        value = self._fields.get(name, False)
        if not isinstance(value, bool):
            raise PolicyInvalid(f"{self.title}: {name} is {value!r}; true or false is expected")
        return value

    def codes(self, name: str, allowed: Sequence[str] | None = None) -> tuple[str, ...]:
        """A list of codes; empty where it is left out. Any code, or one of those allowed."""
        self._asked.add(name)
        values = self._fields.get(name, [])
        if not isinstance(values, list):
            raise PolicyInvalid(f"{self.title}: {name} is {values!r}; a list of codes is expected")
        for value in values:
            if not isinstance(value, str) or not _CODE.fullmatch(value):
                raise PolicyInvalid(
                    f"{self.title}: {name} has {value!r}; lower-case letters, digits and _ are expected"
                )
            if allowed is not None and value not in allowed:
                raise PolicyInvalid(f"{self.title}: {name} has {value!r}; one of {listed(allowed)} is expected")
        return tuple(values)

    def one_of(self, name: str, allowed: Sequence[str]) -> str | None:
        """One code of those allowed; None where it is left out."""
        if not self.has(name):
            return None
        value = self.text(name)
        if value not in allowed:
            raise PolicyInvalid(f"{self.title}: {name} is {value!r}; one of {listed(allowed)} is expected")
        return value

    def optional_names(self, name: str) -> Mapping[str, str] | None:
        return self.names(name) if self.has(name) else None

    def section(self, name: str) -> "TomlTable":
        """A table of its own, which may be left out as a whole."""
        self._asked.add(name)
        value = self._fields.get(name, {})
        if not isinstance(value, dict):
            raise PolicyInvalid(f"{self.title}: {name} is {value!r}; a table [{name}] is expected")
        return TomlTable(value, f"[{name}]")

    def optional_rows(self, name: str) -> list["TomlTable"]:
        """The rows of a table that may be left out."""
        return self.rows(name) if self.has(name) else []

    @property
    def raw(self) -> Mapping[str, Any]:
        """The fields as they are."""
        return self._fields

    def optional(self, name: str) -> Any:  # noqa: ANN401 - any TOML value
        self._asked.add(name)
        return self._fields.get(name)

    def finish(self) -> None:
        for name in self._fields:
            if name not in self._asked:
                raise PolicyInvalid(f"{self.title}: {name} is not understood; correct or remove it")
