"""What every suite shares: Hypothesis profiles, a marker for each folder, and a real PostgreSQL with a database a test.

Laws: no test sees what another stored; with CI=true every generated example is the same in every run."""

import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from local_stack.postgres import EmbeddedPostgres

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDERS: Final = ("unit", "spec", "properties", "contract", "integration", "e2e", "architecture")

# How fast the machine is decides nothing: no deadlines, and no complaint about slow data.
_SETTINGS: Final = settings(deadline=None, suppress_health_check=(HealthCheck.too_slow,))
settings.register_profile("dev", _SETTINGS, max_examples=50)
settings.register_profile("ci", _SETTINGS, max_examples=100, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "dev")  # noqa: TID251 - the tests' own setting


def pytest_configure(config: pytest.Config) -> None:
    for folder in FOLDERS:
        config.addinivalue_line("markers", f"{folder}: the tests below tests/{folder}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest tests begin first: one that began last would leave all other processes idle until it ends.
    items.sort(key=lambda item: not item.path.is_relative_to(ROOT / "tests" / "e2e"))
    for item in items:
        if not item.path.is_relative_to(ROOT / "tests"):
            continue  # a package's own
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        if folder in FOLDERS:
            item.add_marker(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL server for the whole run."""
    with (
        tempfile.TemporaryDirectory(prefix="tierline-tests-") as directory,
        EmbeddedPostgres(Path(directory) / "postgres", fsync=False) as server,
    ):
        yield server


def _address(server: EmbeddedPostgres, database: str) -> str:
    return f"{server.url.rpartition('/')[0]}/{database}"


async def _administer(server: EmbeddedPostgres, statement: str) -> None:
    connection = await asyncpg.connect(_address(server, "postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
async def template(postgres: EmbeddedPostgres) -> str:
    """The name of a migrated, empty database that others are cloned from."""
    await _administer(postgres, "CREATE DATABASE template_migrated")
    await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "alembic", "-c", "migrations/alembic.ini", "upgrade", "head"],
        check=True,
        cwd=ROOT,
        env=dict(os.environ) | {"DATABASE_URL": _address(postgres, "template_migrated")},  # noqa: TID251 - handed on
    )
    return "template_migrated"


_numbers: Final = itertools.count(1)


async def _clone(server: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    name = f"test_{next(_numbers)}"
    # Files are copied in half the time that it takes to log every page; without fsync the checkpoint is cheap.
    await _administer(server, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield _address(server, name)
    await _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database_url(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    """The address of a migrated database that is this test's alone."""
    async for url in _clone(postgres, template):
        yield url


@pytest.fixture(scope="module")
async def shared_database_url(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    """The address of a migrated database for a module whose tests empty it themselves."""
    async for url in _clone(postgres, template):
        yield url
