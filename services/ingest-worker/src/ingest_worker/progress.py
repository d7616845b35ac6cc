"""How far a long command has come: a bar on a terminal, now and then a plain line elsewhere, on standard error."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

_LINE_SECONDS = 10.0


class Progress:
    """Counts up to a total that may turn out to be a little off: others write meanwhile."""

    def __init__(self, doing: str, *, total: int) -> None:
        self._doing = doing
        self._total = total
        self._done = 0
        self._told_at = time.monotonic()
        self._bar: Bar | None = None
        if sys.stderr.isatty():
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                # What is printed to a file or a pipe stays there.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._bar.add_task(doing, total=max(total, 1))

    def advance(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        if self._bar is not None:
            for task in self._bar.task_ids:
                self._bar.advance(task, count)
        elif time.monotonic() - self._told_at >= _LINE_SECONDS:
            self._told_at = time.monotonic()
            print(f"{self._doing}: {self._done:,} of about {self._total:,}", file=sys.stderr, flush=True)  # noqa: T201

    def say(self, line: str) -> None:
        """Something that a person should know meanwhile."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - for a person

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
