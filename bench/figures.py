"""The figures, their goals, and the file that they are written to."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

RESULTS: Final = Path(__file__).with_name("results.json")


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should reach."""

    bound: float
    at_most: bool = False

    def reached(self, figure: float) -> bool:
        return figure <= self.bound if self.at_most else figure >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}"


GOALS: Final[Mapping[str, Goal]] = {
    "ingest_vs_copy": Goal(0.25),
    "ingest_vs_orm": Goal(10),
    "bulk_vs_single": Goal(20),
    "growth_events_x10": Goal(1.3, at_most=True),
    "lookup_vs_empty_route": Goal(3),
    "lookup_p99_vs_empty_route": Goal(1, at_most=True),
    "growth_customers_x10": Goal(1.3, at_most=True),
    "freshness_vs_floor": Goal(5, at_most=True),
    "keeper_vs_sql": Goal(50),
    "tier_follow_seconds": Goal(1, at_most=True),
    "worker_memory_mb": Goal(300, at_most=True),
}
"""Every figure that is measured, in the order of the table."""


@dataclass(slots=True)
class Results:
    """What was measured."""

    figures: dict[str, float] = field(default_factory=dict)
    details: dict[str, object] = field(default_factory=dict)

    def write(self, path: Path = RESULTS) -> None:
        """Puts the file in place as a whole."""
        ordered = {key: self.figures[key] for key in GOALS if key in self.figures}
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        text = json.dumps({"figures": ordered, "details": self.details}, indent=2)
        try:
            beside.write_text(text + "\n", encoding="utf-8")
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
