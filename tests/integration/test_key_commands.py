"""Keys from the command line: made, listed, revoked, rotated; and what the trail keeps of it."""

import asyncio
import json
import re

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from segment_api.__main__ import main
from segmentation.access import Action, ActorKind, digest_of, read_key
from segmentation.storage.audit import PostgresAudit
from segmentation.storage.engine import transaction
from segmentation.storage.keys import PostgresKeys


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    for name in ("CLOCK", "BASE_CURRENCY", "BUSINESS_TIMEZONE", "AUTH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", database_url)


async def run(*arguments: str) -> None:
    await asyncio.to_thread(main, arguments)


async def made(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """The key alone on standard output, the rest on standard error."""
    await run(*arguments)
    said = capsys.readouterr()
    key, end = said.out.split("\n", 1)
    assert end == ""
    assert key.split("_", 2)[2] not in said.err
    return key, said.err


async def test_a_key_is_shown_once_and_kept_as_a_digest(
    capsys: pytest.CaptureFixture[str], engine: AsyncEngine
) -> None:
    key, said = await made(
        capsys, "keys", "create", "--name", "TMS 东区", "--scopes", "dispatch,read", "--expires", "90d", "--rate", "50"
    )
    assert "shown this once" in said
    key_id, secret = read_key(key) or ("", "")
    (kept,) = await PostgresKeys(engine).all()
    assert (kept.id, kept.name, kept.scopes, kept.requests_per_second) == (key_id, "TMS 东区", ("read", "dispatch"), 50)
    assert kept.digest == digest_of(secret)
    assert kept.expires_at is not None
    assert (kept.expires_at - kept.created_at).days in (89, 90)
    assert len(set(re.findall(r"[A-Za-z0-9_-]", secret))) > 15  # chance, and much of it


async def test_keys_are_listed_without_their_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    await run("keys", "list")
    assert "no key yet" in capsys.readouterr().out
    key, _ = await made(capsys, "keys", "create", "--name", "tms", "--scopes", "read")
    await run("keys", "list")
    table = capsys.readouterr().out
    await run("keys", "list", "--json")
    listed = capsys.readouterr().out
    key_id, secret = read_key(key) or ("", "")
    for shown in (table, listed):
        assert key_id in shown
        assert secret not in shown
        assert digest_of(secret).hex() not in shown
    assert "LAST USED" in table
    (described,) = json.loads(listed)
    assert described["state"] == "good"
    assert described["prefix"] == f"tierline_{key_id}"
    assert described["last_used_at"] is None


async def test_a_key_is_revoked_and_rotated_and_the_trail_says_so(
    capsys: pytest.CaptureFixture[str], engine: AsyncEngine
) -> None:
    old, _ = await made(capsys, "keys", "create", "--name", "tms", "--scopes", "read", "--reason", "pilot")
    old_id, _ = read_key(old) or ("", "")
    new, said = await made(capsys, "keys", "rotate", old_id, "--overlap", "30m")
    new_id, _ = read_key(new) or ("", "")
    assert f"takes the place of {old_id}" in said
    await run("keys", "revoke", new_id, "--reason", "laptop lost")
    assert "is revoked" in capsys.readouterr().out
    stood = {key.id: key for key in await PostgresKeys(engine).all()}
    assert stood[new_id].revoked_at is not None
    assert stood[new_id].replaces == old_id
    assert stood[old_id].expires_at is not None
    trail = await PostgresAudit(engine).entries(action=None, customer_id=None, before_id=None, limit=10)
    assert [(each.deed.action, each.deed.subject, each.deed.reason) for each in trail] == [
        (Action.KEY_REVOKED, new_id, "laptop lost"),
        (Action.KEY_ROTATED, old_id, None),
        (Action.KEY_CREATED, old_id, "pilot"),
    ]
    assert {each.by.kind for each in trail} == {ActorKind.COMMAND}
    await run("audit", "--limit", "2", "--action", "key.revoked")
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["reason"] == "laptop lost"


async def test_the_trail_tells_what_a_newer_version_has_written_as_it_stands(
    capsys: pytest.CaptureFixture[str], engine: AsyncEngine
) -> None:
    async with transaction(engine) as connection:
        await connection.execute(
            text(
                "INSERT INTO audit (actor_kind, actor_id, actor_name, action, detail) "
                "VALUES ('command', 'li.wei', 'li.wei', 'customer.merged', '{}')"
            )
        )
    await run("audit")
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["action"] == "customer.merged"


async def test_revoking_twice_changes_nothing(capsys: pytest.CaptureFixture[str], engine: AsyncEngine) -> None:
    key, _ = await made(capsys, "keys", "create", "--name", "tms", "--scopes", "admin")
    key_id, _ = read_key(key) or ("", "")
    await run("keys", "revoke", key_id)
    (first,) = await PostgresKeys(engine).all()
    await run("keys", "revoke", key_id)
    assert await PostgresKeys(engine).all() == [first]
    with pytest.raises(SystemExit, match="there is no good key"):
        await run("keys", "rotate", key_id)


@pytest.mark.parametrize("what", ["revoke", "rotate"])
async def test_an_unknown_key_is_said_to_be_one(what: str) -> None:
    with pytest.raises(SystemExit, match=r"there is no good key 'nobody'; segment-api keys list"):
        await run("keys", what, "nobody")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scopes", "read"], "--name"),
        (["--name", "x"], "--scopes"),
        (["--name", "", "--scopes", "read"], "1 to 128"),
        (["--name", "a\nb", "--scopes", "read"], "printable"),
        (["--name", "x", "--scopes", "write"], "'write' is no scope"),
        (["--name", "x", "--scopes", ""], "is no scope"),
        (["--name", "x", "--scopes", "read", "--expires", "tomorrow"], "90d, 12h or 30m"),
        (["--name", "x", "--scopes", "read", "--expires", "9999d"], "ten years"),
        (["--name", "x", "--scopes", "read", "--rate", "-1"], "requests a second"),
        (["--name", "x", "--scopes", "read", "--rate", "nan"], "requests a second"),
    ],
)
def test_a_wrong_wish_is_told_what_is_expected(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit):
        main(["keys", "create", *arguments])
    assert said in capsys.readouterr().err
