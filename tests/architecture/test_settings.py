"""docs/settings.md against the settings themselves: every one is there, with its meaning and default, and no other."""

import re
from pathlib import Path
from typing import Final

import pytest
from pydantic_settings import BaseSettings

from ingest_worker.settings import WorkerSettings
from segment_api.settings import ApiSettings
from segmentation.settings import HouseSettings, help_text

DOCUMENTED: Final = (Path(__file__).resolve().parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")
SECTIONS: Final[dict[str, type[BaseSettings]]] = {
    "Both services": HouseSettings,
    "ingest-worker": WorkerSettings,
    "segment-api": ApiSettings,
}
_ROW: Final = re.compile(r"^\| `([A-Z_]+)` \| (.+) \| (.+) \|$", re.MULTILINE)


def section(title: str) -> str:
    """The text below a heading."""
    return DOCUMENTED.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def own_settings(settings: type[BaseSettings]) -> dict[str, tuple[str, str]]:
    """Name -> meaning and default, of the settings that the service does not share."""
    shared = HouseSettings.model_fields if settings is not HouseSettings else {}
    found = {}
    for name, field in settings.model_fields.items():
        if name not in shared:
            default = "required" if field.is_required() else "–" if field.default is None else f"`{field.default}`"
            found[name.upper()] = (field.description or "", default)
    return found


@pytest.mark.parametrize("title", SECTIONS)
def test_every_setting_is_documented_with_its_meaning_and_default(title: str) -> None:
    rows = {name: (meaning, default) for name, meaning, default in _ROW.findall(section(title))}
    assert rows == own_settings(SECTIONS[title])


@pytest.mark.parametrize("title", SECTIONS)
def test_settings_are_documented_in_the_order_in_which_they_are_declared(title: str) -> None:
    assert [name for name, _, _ in _ROW.findall(section(title))] == list(own_settings(SECTIONS[title]))


def test_nothing_is_documented_that_is_no_setting() -> None:
    known = {name for settings in SECTIONS.values() for name in own_settings(settings)}
    assert {name for name, _, _ in _ROW.findall(DOCUMENTED)} == known


@pytest.mark.parametrize("settings", [WorkerSettings, ApiSettings])
def test_the_help_of_a_command_names_every_setting_with_its_meaning_and_default(settings: type[BaseSettings]) -> None:
    told = help_text(settings)
    for name, field in settings.model_fields.items():
        meaning = field.description or ""
        assert meaning.endswith("."), name
        default = "required" if field.is_required() else "no default" if not field.default else str(field.default)
        line = told.partition(f"  {name.upper()}\n")[2].partition("\n")[0]
        assert meaning in line, name
        assert default in line, name
