"""The rules on paper are the rules that are tested."""

import ast

from tests.spec import render
from tests.spec.tables import agrees, rows


def test_every_rule_is_a_chapter():
    files = {path.stem.removeprefix("test_") for path in render.HERE.glob("test_*.py")} - {"rendering"}
    assert files == set(render.CHAPTERS)


def test_every_table_of_a_rule_is_rendered():
    """A table handed to a function without a caption would be left out in silence."""
    for chapter in render.CHAPTERS:
        tree = ast.parse((render.HERE / f"test_{chapter}.py").read_text())
        tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
        for test in tests:
            tables = [
                node.value
                for node in ast.walk(test)
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value
            ]
            example = render._example(test)
            assert ast.get_docstring(test), test.name
            assert sum(
                render._markdown(table) in example for table in tables if "|" in table or "at\n" in table
            ) == len([table for table in tables if "|" in table or "at\n" in table]), test.name


def test_the_committed_document_is_current():
    """Run `python -m tests.spec.render` and commit docs/rules.md."""
    assert render.DOCUMENT.read_text() == render.document()


def test_a_table_is_read_cell_by_cell():
    assert rows("\n  a | b c |\n  1 |     | x\n") == [{"a": "1", "b c": "", "": "x"}]


def test_a_cell_says_a_value():
    assert agrees("none", None)
    assert agrees("1/3", 1 / 3)
    assert agrees("0.1", 0.1)
    assert agrees("3", 3)
    assert not agrees("3", "3.0")
    assert not agrees("none", 0)
