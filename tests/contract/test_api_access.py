"""Closed to strangers: who is let in, what for, how fast, and what a refusal says."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.contract.test_api_document import DOCUMENT, OPERATIONS
from tests.support.access import SOMEBODY, Closed, bearer, closed
from tests.support.api import PROBLEM_TYPE, cable_to, running

from segment_api import scopes
from segment_api.app import UndeclaredRoutes, create_app, operations
from segment_api.authenticating import REVOKED_WITHIN_SECONDS, Limits, Refusal
from segment_api.scopes import NEEDED, Open
from segmentation.access import ApiKey, Principal, Scope, read_key, with_included
from segmentation.storage.engine import create_engine, transaction

ROUTES: Final = sorted(NEEDED)
IDS: Final = {"customer_id": "C-1", "version": "1", "letter_id": "1", "event_id": "e", "path": "swagger-ui.css"}


@pytest.fixture(scope="module")
async def engine(shared_database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(shared_database_url, application_name="tests", pool_size=4)
    yield engine
    await engine.dispose()


@pytest.fixture
async def site(engine: AsyncEngine) -> AsyncIterator[Closed]:
    async with closed(engine) as site:
        yield site


def filled(operation: str) -> tuple[str, str]:
    """Method and path of an operation, with an id for each part."""
    method, _, path = operation.partition(" ")
    if path == "/changes":
        path += "?wait=0"  # else it goes on for ever
    return method, re.sub(r"\{(\w+)\}", lambda name: IDS.get(name[1], "1"), path)


# --- every route ----------------------------------------------------------------------------------------------------


async def test_every_route_is_in_the_table_and_nothing_else_is(engine: AsyncEngine) -> None:
    async with running(engine) as api:
        app: Any = api.client._transport.app  # type: ignore[attr-defined]
        assert set(operations(app)) == NEEDED.keys()


@pytest.mark.parametrize("operation", ROUTES)
async def test_every_route_is_closed_to_strangers_but_health(site: Closed, operation: str) -> None:
    method, path = filled(operation)
    answer = await site.api.client.request(method, path)
    if operation in ("GET /health/live", "GET /health/ready"):
        assert answer.status_code == 200
    else:
        assert answer.status_code == 401
        assert answer.headers["content-type"] == PROBLEM_TYPE
        assert answer.headers["www-authenticate"] == 'Bearer realm="tierline"'


@pytest.mark.parametrize("scope", Scope)
async def test_every_route_lets_in_who_has_its_scope_and_nobody_else(site: Closed, scope: Scope) -> None:
    key = await site.key(scope, requests_per_second=0)
    for operation, needs in NEEDED.items():
        method, path = filled(operation)
        answer = await site.api.client.request(method, path, headers=bearer(key))
        if isinstance(needs, Open) or needs in with_included([scope]):
            assert answer.status_code not in (401, 403), operation
        else:
            assert answer.status_code == 403, operation
            assert answer.json()["detail"].startswith(f"The scope {needs} is needed")
            assert f'error="insufficient_scope", scope="{needs}"' in answer.headers["www-authenticate"]


async def test_a_route_without_a_scope_stops_the_application(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(engine) as api:
        context = api.client._transport.app.state.context  # type: ignore[attr-defined]
    monkeypatch.delitem(NEEDED, "GET /tiers")
    with pytest.raises(UndeclaredRoutes, match=r"GET /tiers: add a line for each to scopes\.NEEDED"):
        create_app(context)


@pytest.mark.parametrize("closed_door", [True, False])
async def test_a_route_without_a_scope_is_refused_to_everyone(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, *, closed_door: bool
) -> None:
    """One that was added to the application later, say."""
    async with closed(engine) as site, running(engine) as open_api:
        monkeypatch.delitem(scopes.NEEDED, "GET /tiers")
        if closed_door:
            assert await site.status(await site.key(Scope.ADMIN)) == 403
        else:
            assert (await open_api.client.get("/tiers")).status_code == 403


@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/admin", "/health", "/health/live/", "/docs/../tiers", "/%2e/tiers"]
)
async def test_strangers_do_not_learn_which_paths_there_are(site: Closed, path: str) -> None:
    assert (await site.api.client.get(path)).status_code == 401
    assert (await site.api.client.options(path)).status_code == 401


async def test_the_documents_are_open_where_that_was_chosen(engine: AsyncEngine) -> None:
    async with closed(engine, docs_open=True) as site:
        for path in ("/docs", "/openapi.json", "/asyncapi.json", "/static-offline-docs/swagger-ui.css"):
            assert await site.status(None, path) == 200
        assert await site.status(None) == 401


def test_every_operation_says_what_it_needs() -> None:
    assert DOCUMENT["components"]["securitySchemes"].keys() == {"apiKey", "jwt"}
    for name, operation in OPERATIONS.items():
        needs = NEEDED[name]
        expected = [] if isinstance(needs, Open) else [{"apiKey": [needs]}, {"jwt": [needs]}]
        assert operation["security"] == expected, name


def test_scopes_include_what_is_documented() -> None:
    assert with_included([Scope.ADMIN]) == set(Scope)
    assert with_included([Scope.OPERATE]) == {Scope.OPERATE, Scope.READ}
    assert with_included([Scope.DISPATCH]) == {Scope.DISPATCH, Scope.READ}
    assert with_included([Scope.INGEST]) == {Scope.INGEST}
    assert with_included([Scope.READ]) == {Scope.READ}
    assert with_included([]) == set()


# --- what is shown --------------------------------------------------------------------------------------------------


async def test_what_is_no_key_is_refused_with_what_is_expected(site: Closed) -> None:
    key = await site.key(Scope.READ)
    mark, key_id, secret = key.split("_", 2)
    other_id = (await site.key(Scope.READ)).split("_", 2)[1]
    wrong = [
        *("", "x", "tierline", key[:-1], key + "x", key.upper(), f"{mark}_{key_id}_{'A' * 43}"),
        f"{mark}_000000000000_{secret}",
        f"{mark}_{other_id}_{secret}",
        *("é" * 10, "\x00", "a" * 10_000),
    ]
    for credential in wrong:
        answer = await site.api.client.get("/tiers", headers=[(b"Authorization", f"Bearer {credential}".encode())])
        assert answer.status_code == 401, credential
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        assert secret not in answer.text
    assert await site.status(key) == 200


@pytest.mark.parametrize("scheme", ["Basic", "Token", "", "bearer,"])
async def test_another_scheme_is_refused(site: Closed, scheme: str) -> None:
    key = await site.key(Scope.READ)
    answer = await site.api.client.get("/tiers", headers={"Authorization": f"{scheme} {key}"})
    assert answer.status_code == 401


async def test_the_scheme_is_written_as_one_likes(site: Closed) -> None:
    key = await site.key(Scope.READ)
    assert (await site.api.client.get("/tiers", headers={"Authorization": f"bEARER {key}"})).status_code == 200


async def test_two_credentials_are_none(site: Closed) -> None:
    """Or a proxy and we might each believe another one."""
    key = await site.key(Scope.READ)
    twice = [("Authorization", f"Bearer {key}"), ("Authorization", f"Bearer {key}")]
    answer = await site.api.client.get("/tiers", headers=twice)
    assert answer.status_code == 401
    assert "once" in answer.json()["detail"]


async def test_a_key_in_the_address_is_none(site: Closed) -> None:
    """It would be in every log on its way."""
    key = await site.key(Scope.ADMIN)
    assert await site.status(None, f"/tiers?access_token={key}&api_key={key}&authorization=Bearer%20{key}") == 401


# --- keys -----------------------------------------------------------------------------------------------------------


async def test_nothing_but_a_digest_is_kept(site: Closed, engine: AsyncEngine) -> None:
    key = await site.key(Scope.READ)
    secret = key.split("_", 2)[2]
    async with transaction(engine) as connection:
        for table in ("api_keys", "audit"):
            rows = (await connection.execute(text(f"SELECT t::text FROM {table} t"))).scalars().all()
            assert rows
            assert all(secret not in row and secret.encode().hex() not in row for row in rows)


async def test_a_revoked_key_is_refused_within_the_time_that_is_promised(site: Closed) -> None:
    key = await site.key(Scope.READ)
    assert await site.status(key) == 200
    key_id, _ = read_key(key) or ("", "")
    await site.keys.revoke(key_id, by=SOMEBODY, reason="left", now=site.watch.now())
    assert await site.status(key) == 200  # remembered
    site.watch.passed += REVOKED_WITHIN_SECONDS
    answer = await site.api.client.get("/tiers", headers=bearer(key))
    assert answer.status_code == 401
    assert "is revoked" in answer.json()["detail"]


async def test_an_expired_key_is_refused_at_once(site: Closed) -> None:
    key = await site.key(Scope.READ, expires_at=site.watch.now() + timedelta(seconds=2))
    assert await site.status(key) == 200
    site.watch.passed += 2
    answer = await site.api.client.get("/tiers", headers=bearer(key))
    assert answer.status_code == 401
    assert "is expired" in answer.json()["detail"]


async def test_an_answer_that_lasts_is_asked_for_once_for_all_and_counts_as_no_request(engine: AsyncEngine) -> None:
    async with closed(engine, limits=Limits(requests_per_second=0.001)) as site:
        key = await site.key(Scope.READ)
        headers = [(b"authorization", f"Bearer {key}".encode())]
        principal = await site.authenticator.principal(headers, "198.51.100.7")
        assert isinstance(principal, Principal)
        looked_up = counted(site)
        for passed in range(3):
            site.watch.passed += REVOKED_WITHIN_SECONDS
            asked = (site.authenticator.still(principal, headers, "198.51.100.7") for _ in range(50))
            assert all(await asyncio.gather(*asked))
            assert len(looked_up) == passed + 1
        wider = replace(principal, scopes=frozenset(Scope))
        assert not await site.authenticator.still(wider, headers, "198.51.100.7"), "it has fewer scopes by now"


def counted(site: Closed) -> list[str]:
    """The keys that are looked up from now on."""
    find, looked_up = site.keys.find, list[str]()

    async def counting(key_id: str) -> ApiKey | None:
        looked_up.append(key_id)
        return await find(key_id)

    site.keys.find = counting  # type: ignore[method-assign]
    return looked_up


async def test_all_who_show_a_key_at_one_moment_wait_for_one_look(site: Closed) -> None:
    key = await site.key(Scope.READ, requests_per_second=0)
    looked_up = counted(site)
    for looks in (1, 2):
        assert set(await asyncio.gather(*(site.status(key) for _ in range(20)))) == {200}
        assert len(looked_up) == looks
        site.watch.passed += REVOKED_WITHIN_SECONDS


async def test_who_goes_away_does_not_take_the_look_from_the_others(site: Closed) -> None:
    key = await site.key(Scope.READ)
    headers = [(b"authorization", f"Bearer {key}".encode())]
    first, other = (asyncio.create_task(site.authenticator.principal(headers, "198.51.100.7")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert isinstance(await other, Principal)


async def revoked_during_a_look(site: Closed, key: str) -> tuple[asyncio.Task[int], asyncio.Event]:
    """A request whose look has found the key still good, and what lets it go on; by then the key is revoked."""
    found, go_on, find = asyncio.Event(), asyncio.Event(), site.keys.find

    async def slow(key_id: str) -> ApiKey | None:
        before = await find(key_id)
        found.set()
        await go_on.wait()
        return before

    site.keys.find = slow  # type: ignore[method-assign]
    waiting = asyncio.create_task(site.status(key))
    await found.wait()
    site.keys.find = find  # type: ignore[method-assign]
    key_id, _ = read_key(key) or ("", "")
    await site.keys.revoke(key_id, by=SOMEBODY, reason="left", now=site.watch.now())
    return waiting, go_on


async def test_a_look_that_began_before_a_revocation_is_not_remembered_for_longer(site: Closed) -> None:
    """Slow, and overtaken by one that has found out."""
    key = await site.key(Scope.READ)
    digest = hashlib.sha256(f"Bearer {key}".encode()).digest()
    assert await site.status(key) == 200
    assert await site.status(key) == 200
    site.watch.passed += REVOKED_WITHIN_SECONDS - 1
    waiting, go_on = await revoked_during_a_look(site, key)
    await site.authenticator.refresh(site.keys)
    go_on.set()
    assert await waiting == 200, "asked before"
    assert site.authenticator.at_once(digest) is None
    assert await site.status(key) == 401


async def test_nobody_relies_on_a_look_that_began_long_before(site: Closed) -> None:
    key = await site.key(Scope.READ)
    waiting, go_on = await revoked_during_a_look(site, key)
    site.watch.passed += 2
    assert await site.status(key) == 401
    go_on.set()
    assert await waiting == 200, "asked before"
    site.watch.passed += REVOKED_WITHIN_SECONDS - 2
    assert await site.status(key) == 401


async def test_whoever_guesses_too_often_is_refused_alone(engine: AsyncEngine) -> None:
    async with closed(engine, limits=Limits(failures_per_minute=1)) as site:
        wrong = [(b"authorization", b"Bearer nothing")]
        for _ in range(2):
            assert isinstance(await site.authenticator.principal(wrong, "198.51.100.7"), Refusal)
        right = [(b"authorization", f"Bearer {await site.key(Scope.READ)}".encode())]
        guesser, other = await asyncio.gather(
            site.authenticator.principal(right, "198.51.100.7"), site.authenticator.principal(right, "198.51.100.8")
        )
        assert isinstance(guesser, Refusal)
        assert guesser.status == 429
        assert isinstance(other, Principal)


async def test_a_key_in_use_is_looked_up_beside_the_requests(site: Closed) -> None:
    key = await site.key(Scope.READ)
    digest = hashlib.sha256(f"Bearer {key}".encode()).digest()
    assert await site.status(key) == 200
    site.watch.passed += 1
    assert await site.status(key) == 200
    looked_up = counted(site)
    for _ in range(10):
        site.watch.passed += REVOKED_WITHIN_SECONDS - 1
        await site.authenticator.refresh(site.keys)
        assert site.authenticator.at_once(digest) is not None, "no request has to wait"
    assert len(looked_up) == 10
    key_id, _ = read_key(key) or ("", "")
    await site.keys.revoke(key_id, by=SOMEBODY, reason="left", now=site.watch.now())
    await site.authenticator.refresh(site.keys)
    assert site.authenticator.at_once(digest) is not None, "looked up a moment ago"
    site.watch.passed += 2
    await site.authenticator.refresh(site.keys)
    assert site.authenticator.at_once(digest) is None
    assert await site.status(key) == 401


async def test_a_key_that_nobody_uses_is_not_looked_up(site: Closed) -> None:
    key = await site.key(Scope.READ)
    assert await site.status(key) == 200
    assert await site.status(key) == 200
    looked_up = counted(site)
    site.watch.passed += 61
    await site.authenticator.refresh(site.keys)
    assert not looked_up


async def test_what_cannot_be_looked_up_beside_the_requests_is_left_to_them(database_url: str) -> None:
    async with cable_to(database_url) as (cable, engine), closed(engine) as site:
        key = await site.key(Scope.READ)
        assert await site.status(key, "/openapi.json") == 200
        assert await site.status(key, "/openapi.json") == 200
        await cable.cut()
        site.watch.passed += 3
        await site.authenticator.refresh(site.keys)
        assert await site.status(key, "/openapi.json") == 200
        await cable.plug()


async def test_while_the_database_is_away_a_known_key_goes_on_and_an_unknown_one_waits(database_url: str) -> None:
    async with cable_to(database_url) as (cable, engine), closed(engine) as site:
        key, other = await site.key(Scope.READ), await site.key(Scope.READ)
        assert await site.status(key, "/openapi.json") == 200
        await cable.cut()
        for _ in range(3):
            site.watch.passed += 60
            assert await site.status(key, "/openapi.json") == 200
        answer = await site.api.client.get("/openapi.json", headers=bearer(other))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        site.watch.passed += 900
        assert await site.status(key, "/openapi.json") == 503
        await cable.plug()


async def test_last_uses_are_kept_now_and_then(site: Closed) -> None:
    key = await site.key(Scope.READ)
    key_id, _ = read_key(key) or ("", "")
    for _ in range(3):
        assert await site.status(key) == 200
        site.watch.passed += 1
    found = await site.keys.find(key_id)
    assert found is not None
    assert found.last_used_at is None  # not with each request
    await site.authenticator.note_uses(site.keys)
    found = await site.keys.find(key_id)
    assert found is not None
    assert found.last_used_at == site.watch.now() - timedelta(seconds=1)


async def test_last_uses_wait_for_a_database_that_is_away(database_url: str) -> None:
    async with cable_to(database_url) as (cable, engine), closed(engine) as site:
        key = await site.key(Scope.READ)
        assert await site.status(key, "/openapi.json") == 200
        await cable.cut()
        await site.authenticator.note_uses(site.keys)
        await cable.plug()
        await site.authenticator.note_uses(site.keys)
        (found,) = await site.keys.all()
        assert found.last_used_at == site.watch.now()


async def test_a_rotated_key_goes_on_for_the_overlap(site: Closed) -> None:
    key = await site.key(Scope.READ, name="tms", requests_per_second=5)
    key_id, _ = read_key(key) or ("", "")
    overlap = timedelta(minutes=10)
    asked: dict[str, Any] = {"overlap": overlap, "by": SOMEBODY, "reason": None, "now": site.watch.now()}
    new = await site.keys.rotate(key_id, new_id="0123456789ab", digest=bytes(32), **asked)
    assert new is not None
    assert (new.name, new.scopes, new.requests_per_second, new.replaces) == ("tms", (Scope.READ,), 5, key_id)
    assert await site.status(key) == 200
    site.watch.passed += 600
    assert await site.status(key) == 401
    assert (
        await site.keys.rotate(key_id, new_id="0123456789ac", digest=bytes(32), **asked | {"now": site.watch.now()})
        is None
    )


# --- limits ---------------------------------------------------------------------------------------------------------


async def test_who_is_too_fast_is_told_how_long_to_wait(engine: AsyncEngine) -> None:
    async with closed(engine, limits=Limits(requests_per_second=1)) as site:
        key, other = await site.key(Scope.READ), await site.key(Scope.READ)
        assert [await site.status(key) for _ in range(3)] == [200, 200, 429]
        answer = await site.api.client.get("/tiers", headers=bearer(key))
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert answer.headers["content-type"] == PROBLEM_TYPE
        assert await site.status(other) == 200  # each by itself
        site.watch.passed += 1
        assert [await site.status(key) for _ in range(2)] == [200, 429]


async def test_a_limit_of_its_own_wins(engine: AsyncEngine) -> None:
    async with closed(engine, limits=Limits(requests_per_second=1)) as site:
        faster, any_speed = (
            await site.key(Scope.READ, requests_per_second=2),
            await site.key(Scope.READ, requests_per_second=0),
        )
        assert [await site.status(faster) for _ in range(5)] == [200] * 4 + [429]
        assert [await site.status(any_speed) for _ in range(10)] == [200] * 10


async def test_who_guesses_is_stopped_and_who_is_known_is_not(engine: AsyncEngine) -> None:
    async with closed(engine, limits=Limits(failures_per_minute=3)) as site:
        key, late = await site.key(Scope.READ), await site.key(Scope.READ)
        assert await site.status(key) == 200
        guesses = [f"tierline_{number:012x}_{'A' * 43}" for number in range(5)]
        assert [await site.status(guess) for guess in guesses] == [401, 401, 401, 429, 429]
        assert await site.status(key) == 200
        assert await site.status(late) == 429  # nobody looks at it
        site.watch.passed += 20
        assert await site.status(late) == 200


async def test_one_key_cannot_take_every_place(engine: AsyncEngine) -> None:
    async with closed(engine, most_at_once=1) as site:
        key = await site.key(Scope.READ)
        assert await site.status(key) == 200
        statuses = await asyncio.gather(*(site.status(key) for _ in range(4)))
        assert sorted(statuses) == [200, 429, 429, 429]
        assert await site.status(key) == 200


async def test_an_address_or_headers_without_end_are_refused(site: Closed) -> None:
    key = await site.key(Scope.READ)
    for path in ("/tiers", "/health/live"):
        answer = await site.api.client.get(f"{path}?" + "x" * 20_000, headers=bearer(key))
        assert answer.status_code == 414
        assert answer.headers["content-type"] == "application/problem+json"
        answer = await site.api.client.get(path, headers=bearer(key) | {"X-Long": "x" * 40_000})
        assert answer.status_code == 431
        assert answer.headers["content-type"] == "application/problem+json"


# --- what every answer carries --------------------------------------------------------------------------------------


async def test_every_answer_has_the_request_id_of_the_caller_or_a_new_one(site: Closed) -> None:
    key = await site.key(Scope.READ)
    answer = await site.api.client.get("/tiers", headers=bearer(key) | {"X-Request-ID": "tms-4711"})
    assert answer.headers["x-request-id"] == "tms-4711"
    for insane in ("", "a b", "x" * 129, "<script>", "ü"):
        headers = [(b"Authorization", f"Bearer {key}".encode()), (b"X-Request-ID", insane.encode())]
        made = (await site.api.client.get("/tiers", headers=headers)).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{16}", made)
    refused = await site.api.client.get("/tiers", headers={"X-Request-ID": "tms-4712"})
    assert refused.json()["request_id"] == refused.headers["x-request-id"] == "tms-4712"


@pytest.mark.parametrize("path", ["/tiers", "/nowhere", "/health/live", "/docs", "/openapi.json"])
async def test_every_answer_is_hardened(engine: AsyncEngine, path: str) -> None:
    async with closed(engine, docs_open=True) as site:
        answer = await site.api.client.get(path, headers=bearer(await site.key(Scope.READ)))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers
    assert "strict-transport-security" not in answer.headers  # it would lock out a host without TLS


async def test_over_tls_browsers_are_told_to_stay_there(site: Closed) -> None:
    answer = await site.api.client.get("https://tierline/health/live")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


async def test_the_page_of_the_documents_runs_its_own_scripts_and_no_others(engine: AsyncEngine) -> None:
    import base64
    import hashlib

    async with running(engine) as api:
        page = await api.client.get("/docs")
    policy = page.headers["content-security-policy"]
    inline = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    assert inline
    for script in inline:
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    assert not re.search(r"(src|href)=\"https?:", page.text)


async def test_the_log_names_the_route_and_who_asks_but_no_customer_and_no_secret(site: Closed) -> None:
    key = await site.key(Scope.READ, Scope.OPERATE)
    await site.api.client.get("/customers/C-SECRET/segment?as_of=2020-01-01", headers=bearer(key))
    await site.api.client.get("/customers/C-SECRET/segment", headers=bearer(key[:-2] + "zz"))
    known, unknown = site.said
    assert known["event"] == "request.answered"
    assert (known["method"], known["route"], known["status"]) == ("GET", "/customers/{customer_id}/segment", 404)
    assert known["by"] == f"key {(read_key(key) or ('',))[0]}"
    assert (unknown["route"], unknown["status"], unknown["by"]) == ("other", 401, None)
    written = str(site.said)
    assert "C-SECRET" not in written
    assert (read_key(key) or ("", ""))[1] not in written
