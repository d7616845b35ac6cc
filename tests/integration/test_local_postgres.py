"""The stack's own PostgreSQL: it starts wherever the user may write, and finds its data again whatever happened."""

import asyncio
import os
import signal
import stat
import time
from pathlib import Path

import asyncpg
import pytest

from local_stack import strays
from local_stack.failures import StackFailed
from local_stack.ports import free_port
from local_stack.postgres import EmbeddedPostgres


async def _ask(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def _postgres(directory: Path, *, port: int | None = None) -> EmbeddedPostgres:
    return EmbeddedPostgres(directory, port=port, fsync=False)


async def test_it_starts_as_the_current_user_on_loopback_with_a_password(tmp_path: Path) -> None:
    with _postgres(tmp_path / "postgres") as postgres:
        assert await _ask(postgres.url, "SELECT current_database()") == "tierline"
        assert await _ask(postgres.url, "SELECT current_setting('server_encoding')") == "UTF8"
        assert await _ask(postgres.url, "SHOW listen_addresses") == "127.0.0.1"
        assert await _ask(postgres.url, "SHOW unix_socket_directories") == ""
        wrong = f"postgresql://tierline:wrong@127.0.0.1:{postgres.port}/tierline"
        with pytest.raises(asyncpg.InvalidPasswordError):
            await _ask(wrong, "SELECT 1")
        assert stat.S_IMODE((tmp_path / "postgres" / "password").stat().st_mode) == 0o600


async def test_it_starts_below_a_directory_that_only_its_owner_may_enter(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with _postgres(closed / "postgres") as postgres:
        assert await _ask(postgres.url, "SELECT 1") == 1
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


async def test_the_next_start_finds_the_data(tmp_path: Path) -> None:
    with _postgres(tmp_path) as postgres:
        await _ask(postgres.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        first = postgres.url
    with _postgres(tmp_path) as postgres:
        assert await _ask(postgres.url, "SELECT answer FROM kept") == 42
        assert postgres.url.partition("@")[0] == first.partition("@")[0]


async def test_a_restart_keeps_the_data(tmp_path: Path) -> None:
    with _postgres(tmp_path) as postgres:
        await _ask(postgres.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        # from a thread that ends before the server does
        await asyncio.to_thread(postgres.restart)
        assert await _ask(postgres.url, "SELECT answer FROM kept") == 42


async def test_it_starts_again_after_everything_was_killed(tmp_path: Path) -> None:
    with _postgres(tmp_path) as postgres:
        await _ask(postgres.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        postgres.kill()
        assert not strays.working_in(tmp_path / "data", name="postgres")
        postgres.start()
        assert await _ask(postgres.url, "SELECT answer FROM kept") == 42


async def test_it_starts_again_after_only_the_postmaster_was_killed(tmp_path: Path) -> None:
    with _postgres(tmp_path) as postgres:
        await _ask(postgres.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        os.kill(postgres.process.pid, signal.SIGKILL)
        while postgres.process.running:
            time.sleep(0.01)  # noqa: ASYNC251 - nothing else goes on
        assert (tmp_path / "data" / "postmaster.pid").exists()
        postgres.start()
        assert await _ask(postgres.url, "SELECT answer FROM kept") == 42


def test_stopping_leaves_no_process(tmp_path: Path) -> None:
    with _postgres(tmp_path):
        assert strays.working_in(tmp_path / "data", name="postgres")
    assert not strays.working_in(tmp_path / "data", name="postgres")


def test_an_interrupted_first_start_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "data.new").mkdir()
    (tmp_path / "data.new" / "PG_VERSION").write_text("18")
    with _postgres(tmp_path) as postgres:
        assert postgres.process.running


def test_a_broken_data_directory_is_said_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "password").write_text("secret")
    with pytest.raises(StackFailed, match=r"no PostgreSQL data directory.*remove"):
        _postgres(tmp_path).start()


def test_a_chosen_port_that_is_taken_is_named_with_its_option(tmp_path: Path) -> None:
    with _postgres(tmp_path / "one") as one, pytest.raises(StackFailed, match=f"Port {one.port}.*--postgres-port"):
        _postgres(tmp_path / "two", port=one.port).start()


def test_a_chosen_port_is_used(tmp_path: Path) -> None:
    port = free_port()
    with _postgres(tmp_path, port=port) as postgres:
        assert postgres.port == port
