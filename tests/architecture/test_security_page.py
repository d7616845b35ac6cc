"""docs/security.md: all ten risks are there, and every test that it names exists."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from segmentation.access import Scope, with_included

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED: Final = sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", PAGE)))


def test_all_ten_risks_have_a_row_with_a_test() -> None:
    rows = re.findall(r"^\| (API\d+) \|.*$", PAGE, re.MULTILINE)
    assert rows == [f"API{number}" for number in range(1, 11)]
    for row in re.findall(r"^\| API\d+ \|.*$", PAGE, re.MULTILINE):
        assert "`tests/" in row, row[:30]


@pytest.mark.parametrize("name", NAMED)
def test_every_test_that_is_named_exists(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert any(each.startswith("test_") for each in functions)
    assert not function or function in functions


def test_the_scopes_are_those_there_are() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*?) ?\|$", PAGE.partition("## Who may do what")[2], re.MULTILINE))
    assert rows.keys() == set(Scope)
    for scope, includes in rows.items():
        others = with_included([Scope(scope)]) - {Scope(scope)}
        every = {each.value for each in Scope if each is not Scope.ADMIN}
        named = every if includes == "all" else set(re.findall(r"`(\w+)`", includes))
        assert named == {each.value for each in others}, scope
