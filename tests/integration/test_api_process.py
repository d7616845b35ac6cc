"""The real `segment-api` as a process: closed to strangers over TLS, and what it says and keeps."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.access import bearer, new_key
from tests.support.certificates import Authority
from tests.support.ledgers import house_of, in_postgres
from tests.support.oracle import Setting
from tests.support.workers import LIMIT_SECONDS, environment, eventually

from local_stack.ports import free_port
from segment_api.settings import ApiSettings
from segmentation.access import Scope, read_key
from segmentation.storage.keys import PostgresKeys

PROGRAM: Final = Path(sys.executable).with_name("segment-api")


class Server:
    """One `segment-api run`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, client: httpx.AsyncClient) -> None:
        self._process = process
        self._log = log
        self.client = client

    async def answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text(encoding="utf-8")
        try:
            return (await self.client.get("/health/live")).status_code == 200
        except httpx.TransportError:
            return False

    def said(self, event: str) -> list[dict[str, Any]]:
        lines = self._log.read_text(encoding="utf-8").splitlines()
        said = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in said if line["event"] == event]

    async def stop(self) -> int:
        self._process.terminate()
        return await asyncio.to_thread(self._process.wait, LIMIT_SECONDS)


def _start(settings: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    ours = {name.upper() for name in ApiSettings.model_fields}
    inherited = {name: value for name, value in environment({}).items() if name not in ours}
    command = [str(PROGRAM), "run"]
    with log.open("wb") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=inherited | settings
        )


@asynccontextmanager
async def serving(
    engine: AsyncEngine, database_url: str, directory: Path, authority: Authority | None = None, **settings: str
) -> AsyncIterator[Server]:
    house = house_of(Setting())
    await in_postgres(engine, Setting())
    port = free_port()
    given = {
        "DATABASE_URL": database_url,
        "HTTP_PORT": str(port),
        "CLOCK": house.clock,
        "BASE_CURRENCY": house.base_currency,
        "BUSINESS_TIMEZONE": house.time_zone,
    }
    scheme, trusted = "http", ssl.create_default_context()
    if authority is not None:
        pair = authority.vouch("api.test")
        given |= {"HTTP_TLS_CERT_FILE": str(pair.certificate), "HTTP_TLS_KEY_FILE": str(pair.key)}
        scheme, trusted = "https", ssl.create_default_context(cafile=str(authority.file))
    log = directory / "segment-api.log"
    process = _start(given | settings, log)
    try:
        async with httpx.AsyncClient(
            base_url=f"{scheme}://127.0.0.1:{port}", verify=trusted, trust_env=False
        ) as client:
            server = Server(process, log, client)
            await eventually(server.answers, "the API to answer", told=lambda: log.read_text(encoding="utf-8"))
            yield server
    finally:
        process.kill()
        process.wait()


async def test_over_tls_a_key_opens_what_a_stranger_does_not_see(
    engine: AsyncEngine, database_url: str, tmp_path: Path
) -> None:
    keys = PostgresKeys(engine)
    async with serving(engine, database_url, tmp_path, Authority(tmp_path), AUTH="keys") as server:
        key = await new_key(keys, Scope.READ, Scope.OPERATE)
        assert (await server.client.get("/tiers")).status_code == 401
        assert (await server.client.get("/docs")).status_code == 401
        answer = await server.client.get("/tiers", headers=bearer(key))
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"]
        assert (await server.client.get("/audit", headers=bearer(key))).status_code == 403
        assert (await server.client.get("/metrics", headers=bearer(key))).status_code == 200
        assert "server" not in answer.headers
        key_id, secret = read_key(key) or ("", "")
        assert await server.stop() == 0
        # What was not yet written of last uses is written at the end.
        kept = await keys.find(key_id)
        assert kept is not None
        assert kept.last_used_at is not None
        answered = [line for line in server.said("request.answered") if line["route"] == "/tiers"]
        assert [line["by"] for line in answered] == [f"key {key_id}"]
        assert secret not in (tmp_path / "segment-api.log").read_text(encoding="utf-8")
    (on,) = server.said("auth.on")
    assert on["ways"] == ["keys"]


async def test_without_authentication_it_says_so(engine: AsyncEngine, database_url: str, tmp_path: Path) -> None:
    async with serving(engine, database_url, tmp_path) as server:
        assert (await server.client.get("/tiers")).status_code == 200
        (off,) = server.said("auth.off")
        assert off["level"] == "warning"


@pytest.mark.parametrize(("proxies", "seen"), [("127.0.0.1", "203.0.113.9"), ("", "127.0.0.1")])
async def test_an_address_is_believed_of_a_named_proxy_only(
    engine: AsyncEngine, database_url: str, tmp_path: Path, proxies: str, seen: str
) -> None:
    async with serving(engine, database_url, tmp_path, HTTP_TRUSTED_PROXIES=proxies) as server:
        await server.client.get("/tiers", headers={"X-Forwarded-For": "203.0.113.9"})
        await server.stop()
        assert server.said("request.answered")[-1]["client"] == seen


@pytest.mark.parametrize("content", ["", "no certificate"])
async def test_a_certificate_that_is_none_stops_the_start(tmp_path: Path, content: str) -> None:
    file = tmp_path / "certificate.pem"
    file.write_text(content)
    given = {
        "DATABASE_URL": "postgresql://u:p@127.0.0.1:1/t",
        "HTTP_TLS_CERT_FILE": str(file),
        "HTTP_TLS_KEY_FILE": str(file),
    }
    done = await asyncio.to_thread(
        subprocess.run, [str(PROGRAM), "run"], capture_output=True, text=True, env=environment(given), check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"segment-api: HTTP_TLS_CERT_FILE is {file}: ")
