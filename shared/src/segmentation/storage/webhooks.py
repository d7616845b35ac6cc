"""Webhooks in the database: who wants changes, how far each is, and the log of tries.

Law: what a try did is noted with how far the webhook is, in one transaction, and only where the webhook still stands
where the try began: a person who moved it meanwhile, or a second deliverer, is not overruled. What a person does is
in the audit trail by the receiver's host: the rest of an address may be a secret, and filters may name customers.
"""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation.access import ANYONE, Action, Actor, Deed
from segmentation.storage.audit import note_deeds
from segmentation.storage.engine import transaction
from segmentation.streams import ChangeFilter
from segmentation.webhooks import MOST_WEBHOOKS, Attempt, DueWebhook, Parcel, WantedWebhook, Webhook

_FILTERS = ("tiers", "segments", "service_levels", "customer_ids")
_ONE_AT_A_TIME = text("LOCK TABLE webhooks IN SHARE ROW EXCLUSIVE MODE")
_COUNT = text("SELECT count(*) FROM webhooks")
_ADD = text("""
    INSERT INTO webhooks (url, secret, description, wanted, position)
    VALUES (:url, :secret, :description, CAST(:wanted AS jsonb), :after) RETURNING *
""")
_LISTED = text("SELECT * FROM webhooks ORDER BY id")
_FIND = text("SELECT * FROM webhooks WHERE id = :id")
_REMOVE = text("DELETE FROM webhooks WHERE id = :id RETURNING url")
_ASK_TEST = text("UPDATE webhooks SET tests = tests + 1 WHERE id = :id RETURNING url")
_GO_ON = text("""
    UPDATE webhooks SET
        position = coalesce(CAST(:after AS bigint), position),
        pending = CASE WHEN CAST(:after AS bigint) IS NULL THEN pending END,
        failures = 0, failing_since = NULL, next_try_at = NULL, problem = NULL,
        disabled_at = NULL, disabled_because = NULL
    WHERE id = :id RETURNING *
""")
_ATTEMPTS = text("""
    SELECT * FROM webhook_attempts
    WHERE webhook_id = :id AND (CAST(:before AS bigint) IS NULL OR id < :before) ORDER BY id DESC LIMIT :limit
""")
_DUE = text("""
    SELECT * FROM webhooks
    WHERE id <> ALL(CAST(:except_for AS bigint[]))
      AND (tested < tests
           OR disabled_at IS NULL AND (next_try_at IS NULL OR next_try_at <= now())
              AND position < (SELECT placed FROM feeds WHERE name = 'changes'))
    ORDER BY id
""")
_STANDS = "WHERE id = :id AND position = :from_position"
_REACH = text(f"UPDATE webhooks SET position = :last, pending = NULL {_STANDS}")  # noqa: S608 - a constant of our own
_TAKEN = text(f"""
    UPDATE webhooks SET position = :last, pending = NULL, failures = 0, failing_since = NULL, next_try_at = NULL,
        problem = NULL {_STANDS}
""")  # noqa: S608 - a constant of our own
_REFUSED = text(f"""
    UPDATE webhooks SET pending = :last, failures = failures + 1, problem = :problem,
        failing_since = coalesce(failing_since, now()), next_try_at = now() + make_interval(secs => :again_in),
        disabled_at = CASE WHEN CAST(:because AS text) IS NOT NULL THEN now() END, disabled_because = :because
    {_STANDS}
""")  # noqa: S608 - a constant of our own
_DISABLE = text(f"UPDATE webhooks SET disabled_at = now(), disabled_because = :because {_STANDS}")  # noqa: S608 - a constant of our own
_TESTED = text("UPDATE webhooks SET tested = tests WHERE id = :id")
_NOTE = text("""
    INSERT INTO webhook_attempts (webhook_id, message_id, changes, status, problem, milliseconds)
    SELECT id, :message_id, :changes, :status, :problem, :milliseconds FROM webhooks WHERE id = :id
""")
_DROP = text("""
    DELETE FROM webhook_attempts WHERE id IN (
        SELECT id FROM webhook_attempts WHERE at < now() - make_interval(days => :days) ORDER BY at LIMIT :limit)
""")


class PostgresWebhooks:
    """`segmentation.webhooks.Webhooks` and `Outgoing` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, wanted: WantedWebhook, secret: str, *, after: int, by: Actor = ANYONE) -> Webhook | None:
        async with transaction(self._engine) as connection:
            await connection.execute(_ONE_AT_A_TIME)
            if (await connection.scalar(_COUNT) or 0) >= MOST_WEBHOOKS:
                return None
            given = {
                "url": wanted.url,
                "secret": secret,
                "description": wanted.description,
                "wanted": json.dumps({name: sorted(getattr(wanted.wanted, name)) for name in _FILTERS}),
                "after": after,
            }
            added = _webhook((await connection.execute(_ADD, given)).one())
            await note_deeds(connection, by, [_deed(Action.WEBHOOK_CREATED, added.id, wanted.url, **_asked(added))])
            return added

    async def listed(self) -> Sequence[Webhook]:
        async with transaction(self._engine) as connection:
            return [_webhook(row) for row in await connection.execute(_LISTED)]

    async def find(self, webhook_id: int) -> Webhook | None:
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_FIND, {"id": webhook_id})).one_or_none()
            return None if row is None else _webhook(row)

    async def remove(self, webhook_id: int, *, by: Actor = ANYONE) -> bool:
        async with transaction(self._engine) as connection:
            url = await connection.scalar(_REMOVE, {"id": webhook_id})
            if url is not None:
                await note_deeds(connection, by, [_deed(Action.WEBHOOK_DELETED, webhook_id, url)])
            return url is not None

    async def ask_test(self, webhook_id: int, *, by: Actor = ANYONE) -> bool:
        async with transaction(self._engine) as connection:
            url = await connection.scalar(_ASK_TEST, {"id": webhook_id})
            if url is not None:
                await note_deeds(connection, by, [_deed(Action.WEBHOOK_TESTED, webhook_id, url)])
            return url is not None

    async def go_on(self, webhook_id: int, *, after: int | None, by: Actor = ANYONE) -> Webhook | None:
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_GO_ON, {"id": webhook_id, "after": after})).one_or_none()
            if row is None:
                return None
            action = Action.WEBHOOK_ENABLED if after is None else Action.WEBHOOK_REPLAYED
            await note_deeds(connection, by, [_deed(action, webhook_id, row.url, after=row.position)])
            return _webhook(row)

    async def attempts(self, webhook_id: int, *, before: int | None, limit: int) -> Sequence[Attempt]:
        async with transaction(self._engine) as connection:
            rows = await connection.execute(_ATTEMPTS, {"id": webhook_id, "before": before, "limit": limit})
            return [
                Attempt(row.message_id, row.changes, row.status, row.problem, row.milliseconds, row.at, row.id)
                for row in rows
            ]

    async def due(self, *, except_for: Sequence[int]) -> Sequence[DueWebhook]:
        async with transaction(self._engine) as connection:
            rows = await connection.execute(_DUE, {"except_for": list(except_for)})
            return [
                DueWebhook(_webhook(row), row.secret, row.tests if row.tested < row.tests else None) for row in rows
            ]

    async def reach(self, webhook: Webhook, position: int) -> None:
        async with transaction(self._engine) as connection:
            await connection.execute(_REACH, _standing(webhook) | {"last": position})

    async def taken(self, webhook: Webhook, parcel: Parcel, attempt: Attempt) -> None:
        async with transaction(self._engine) as connection:
            await _note(connection, webhook, attempt)
            if parcel.last is None:
                await connection.execute(_TESTED, {"id": webhook.id})
            else:
                await connection.execute(_TAKEN, _standing(webhook) | {"last": parcel.last})

    async def refused(
        self, webhook: Webhook, parcel: Parcel, attempt: Attempt, *, again_in: float, disabled_because: str | None
    ) -> None:
        async with transaction(self._engine) as connection:
            await _note(connection, webhook, attempt)
            if parcel.last is None:
                await connection.execute(_TESTED, {"id": webhook.id})
                return
            told = {"problem": attempt.problem, "again_in": again_in, "because": disabled_because}
            await connection.execute(_REFUSED, _standing(webhook) | told | {"last": parcel.last})

    async def disable(self, webhook: Webhook, because: str) -> None:
        async with transaction(self._engine) as connection:
            await connection.execute(_DISABLE, _standing(webhook) | {"because": because})

    async def drop_attempts(self, *, days: int, limit: int) -> int:
        async with transaction(self._engine) as connection:
            return (await connection.execute(_DROP, {"days": days, "limit": limit})).rowcount


def _deed(action: Action, webhook_id: int, url: str, **more: Any) -> Deed:  # noqa: ANN401 - any detail
    return Deed(action, str(webhook_id), detail={"host": urlsplit(url).netloc} | more)


def _asked(webhook: Webhook) -> dict[str, Any]:
    wanted = webhook.wanted
    codes = {name: sorted(getattr(wanted, name)) for name in ("tiers", "segments", "service_levels")}
    return codes | {"customers": len(wanted.customer_ids), "after": webhook.position}


async def _note(connection: AsyncConnection, webhook: Webhook, attempt: Attempt) -> None:
    await connection.execute(
        _NOTE,
        {
            "id": webhook.id,
            "message_id": attempt.message_id,
            "changes": attempt.changes,
            "status": attempt.status,
            "problem": attempt.problem,
            "milliseconds": attempt.milliseconds,
        },
    )


def _standing(webhook: Webhook) -> dict[str, Any]:
    return {"id": webhook.id, "from_position": webhook.position}


def _webhook(row: Any) -> Webhook:  # noqa: ANN401 - a row of webhooks
    return Webhook(
        id=row.id,
        url=row.url,
        description=row.description,
        wanted=ChangeFilter(*(frozenset(row.wanted[name]) for name in _FILTERS)),
        position=row.position,
        pending=row.pending,
        created_at=row.created_at,
        failures=row.failures,
        failing_since=row.failing_since,
        next_try_at=row.next_try_at,
        problem=row.problem,
        disabled_at=row.disabled_at,
        disabled_because=row.disabled_because,
    )
