"""What must stay true of the tree of files."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.spec import render

import segmentation

ROOT = Path(__file__).resolve().parents[2]
LONGEST_MODULE = 450
MODULES = sorted(path for path in Path(segmentation.__path__[0]).rglob("*.py") if path.stat().st_size)
# In pieces, so that this file does not name what it looks for.
HOSTS = [
    ".".join(pieces)
    for pieces in (
        ("pypi", "org"),
        ("files", "pythonhosted"),
        ("repo", "maven"),
        ("repo1", "maven"),
        ("npmjs", "org"),
        ("deb", "debian"),
    )
]
PLACES = [f"/{top}/" for top in ("root", "home", "work")]
NAMED = re.compile(rf"\b(?:{'|'.join(map(re.escape, HOSTS))})\b|(?<![\w.:/}}-])(?:{'|'.join(map(re.escape, PLACES))})")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(segmentation.__path__[0]).as_posix())
def test_every_module_opens_with_a_docstring(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert docstring.partition("\n")[0].endswith((".", ":", "?")) or "\n\n" in docstring


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(segmentation.__path__[0]).as_posix())
def test_no_module_is_too_long(path):
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE


def test_the_rules_on_paper_are_current():
    """Run `python -m tests.spec.render`."""
    assert (ROOT / "docs" / "rules.md").read_text() == render.document()


def files() -> list[Path]:
    """Everything in the repository: committed, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def mentions() -> Iterator[str]:
    for path in files():
        if not path.is_file():
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for match in NAMED.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{path.relative_to(ROOT)}:{line}: {match[0]}"


def test_no_file_names_a_registry_or_a_place_on_a_machine():
    """Where packages come from, and where a checkout lies, is the business of whoever installs it."""
    assert list(mentions()) == []


FOUND = [f"https://{host}.org/simple" for host in HOSTS] + [f"{mark}{place}x" for place in PLACES for mark in " '="]
LEFT = [f"services{PLACES[2]}x", f"https://example.com{PLACES[1]}x", "the root/ of it", "homework/"]


@pytest.mark.parametrize("text", FOUND)
def test_the_search_finds_what_it_looks_for(text):
    assert NAMED.search(text)


@pytest.mark.parametrize("text", LEFT)
def test_the_search_leaves_the_rest_alone(text):
    assert not NAMED.search(text)
