"""The directory that a stack keeps everything in, and what it remembers there between starts.

Laws: one stack at a time. A file is either the old whole one or the new whole one.

    DIR/
    ├── postgres/  kafka/  in-process/  logs/
    ├── lock                 held by the running stack, with its process id
    ├── stack.json           the addresses, while a stack is up
    ├── stack-settings.json  the clock, currency and time zone that the data was made with
    ├── replay.json          how far the replay has come
    └── simulation.json      the last run of synthetic events, whose ids are taken
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local_stack.failures import StackFailed

NEEDED_BYTES = 500_000_000


class DataDirectory:
    """A data directory that is ours while the `with` statement runs."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    @property
    def logs(self) -> Path:
        """Where the services' logs are."""
        return self.path / "logs"

    def __enter__(self) -> Self:
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            self._lock = self._take_lock()
        except (PermissionError, FileExistsError, NotADirectoryError) as denied:
            raise StackFailed(
                f"The data directory {self.path} cannot be written to ({denied.strerror}): "
                "choose another with --data-dir, or start the stack as the user that owns it."
            ) from denied
        try:
            self._require_space()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self, name: str) -> dict[str, Any] | None:
        """What was written there, None if nothing was."""
        file = self.path / name
        try:
            content = json.loads(file.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise StackFailed(f"The file {file} is damaged: remove it, and start again.")
        return content

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write it whole."""
        fresh = self.path / f"{name}.new"
        # Only for their owner: an address may hold a password.
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path / name)

    def remove(self, name: str) -> None:
        """Forget it."""
        (self.path / name).unlink(missing_ok=True)

    def _take_lock(self) -> int:
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise StackFailed(
                f"Another stack (process {holder}) is running on {self.path}: stop it, or choose another directory "
                "with --data-dir."
            ) from None
        os.truncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def _require_space(self) -> None:
        free = shutil.disk_usage(self.path).free
        if free < NEEDED_BYTES:
            raise StackFailed(
                f"The disk that holds {self.path} has {free // 1_000_000} MB left, and {NEEDED_BYTES // 1_000_000} MB "
                "are needed: free some space there, or choose another place with --data-dir."
            )
