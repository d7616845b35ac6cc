"""Writes docs/rules.md from the titles, docstrings and tables of the rule tests: `python -m tests.spec.render`.

Laws: every rule file is a chapter, in the order in which an event meets the rules; what is written is read from the
source of the tests alone, so nothing can be documented that is not tested.
"""

import ast
from pathlib import Path

from tests.spec.tables import rows

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "rules.md"
CHAPTERS = (
    "message_outcomes",
    "business_days",
    "order_versions",
    "deliveries",
    "returns_complaints_feedback",
    "retractions",
    "money_conversion",
    "windows",
    "lifetime",
    "tiers",
    "demotion_grace",
    "overrides",
    "lifecycle_stages",
    "churn_warnings",
    "segments_decided",
    "service_levels_granted",
    "profiles",
)
CAPTIONS = {
    "told": "Events",
    "rates": "Exchange rates",
    "shows": "Figures",
    "ranks": "Computed tiers",
    "decides": "Decisions",
    "describes": "Profile",
    "day_by_day": "Day by day",
    "overridden": "Day by day",
    "judged": "What is asked for as of 2026-03-01",
    "decided": "Messages",
    "read_in_turn": "Messages, one after the other",
    "same": "Two messages of one id",
    "dated": "Orders read at 2026-03-01T12:00:00Z",
    "priced": "Orders",
    "levels": "Levels",
    "twelve": "Events",
}
_SETTINGS = {"base": "Base currency: {}.", "zone": "Business time zone: {}.", "grace": "Grace: {} days."}
_RULES = {"rules": "Policy: {}."}
_OPENING = """\
# The rules, by example

Every rule that decides what a customer is, with the examples that it is held to.
Each example is a test: this document is written from the tests by `python -m tests.spec.render`, and a check fails when
it is not up to date.
In the tables an event without a customer is of C-1, without an id it is numbered by its row; a day alone is noon in
UTC of that day; an empty cell is an absent field; amounts are CNY unless they say otherwise; `none` is null.
"""


def document() -> str:
    """The whole document."""
    parts = [_OPENING]
    for number, chapter in enumerate(CHAPTERS, start=1):
        tree = ast.parse((HERE / f"test_{chapter}.py").read_text())
        title, _, sentences = (ast.get_docstring(tree) or "").partition("\n\n")
        parts.append(f"## {number}. {title}\n\n{sentences}\n")
        parts += [_example(node) for node in tree.body if isinstance(node, ast.FunctionDef) and _is_test(node)]
    return "\n".join(parts)


def _is_test(node: ast.FunctionDef) -> bool:
    return node.name.startswith("test_")


def _example(test: ast.FunctionDef) -> str:
    title = test.name.removeprefix("test_").replace("_", " ").capitalize()
    lines = [f"### {title}\n", f"{ast.get_docstring(test)}\n"]
    for _, caption, text in sorted(_tables_of(test)):
        lines.append(f"{caption}:\n\n{_markdown(text)}\n" if "|" in text or "\n" in text else f"{caption}\n")
    return "\n".join(lines)


def _tables_of(test: ast.FunctionDef) -> list[tuple[tuple[int, int], str, str]]:
    found: list[tuple[tuple[int, int], str, str]] = []
    for node in ast.walk(test):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found += _table(node.targets[0].id, node.value)
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            for argument in node.args[:1]:
                found += _table(name, argument)
            for keyword in node.keywords:
                found += _table(keyword.arg or "", keyword.value)
    return found


def _table(name: str, value: ast.expr) -> list[tuple[tuple[int, int], str, str]]:
    place = (value.lineno, value.col_offset)
    if name in CAPTIONS and isinstance(value, ast.Constant) and isinstance(value.value, str):
        return [(place, CAPTIONS[name], value.value)]
    if name in _SETTINGS and isinstance(value, ast.Constant):
        return [(place, _SETTINGS[name].format(value.value), "")]
    if name in _RULES:
        return [(place, _RULES[name].format(f"`{ast.unparse(value)}`"), "")]
    return []


def _markdown(table: str) -> str:
    body = rows(table)
    lines = [list(body[0]), ["---"] * len(body[0]), *(list(row.values()) for row in body)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    DOCUMENT.write_text(document())
    print(f"{DOCUMENT.name} is written.")
