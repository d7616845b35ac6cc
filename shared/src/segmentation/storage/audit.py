"""The trail of what was changed by hand: written in the transaction of the change, read in pages."""

import enum
import getpass
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation.access import Action, Actor, ActorKind, AuditEntry, Deed
from segmentation.storage.engine import transaction
from segmentation.storage.tables import audit

_Code = TypeVar("_Code", bound=enum.StrEnum)


async def note_deeds(connection: AsyncConnection, by: Actor, deeds: Iterable[Deed]) -> None:
    """Adds to the trail; whoever calls it holds the transaction of the change."""
    who: dict[str, Any] = {"actor_kind": by.kind, "actor_id": by.id, "actor_name": by.name, "request_id": by.request_id}
    rows = [
        who
        | {
            "action": deed.action,
            "subject": deed.subject,
            "customer_id": deed.customer_id,
            "reason": deed.reason,
            "author": deed.author,
            "detail": dict(deed.detail),
        }
        for deed in deeds
    ]
    if rows:
        await connection.execute(audit.insert(), rows)


def operator() -> Actor:
    """Whoever runs a command: the account of the machine that it runs under."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in a container
        name = "unnamed account"
    return Actor(ActorKind.COMMAND, name, name)


class PostgresAudit:
    """`segmentation.access.AuditTrail` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def entries(
        self, *, action: Action | None, customer_id: str | None, before_id: int | None, limit: int
    ) -> Sequence[AuditEntry]:
        asked = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if action is not None:
            asked = asked.where(audit.c.action == action)
        if customer_id is not None:
            asked = asked.where(audit.c.customer_id == customer_id)
        if before_id is not None:
            asked = asked.where(audit.c.id < before_id)
        async with transaction(self._engine) as connection:
            return [_entry(row) for row in await connection.execute(asked)]


def _entry(row: Any) -> AuditEntry:  # noqa: ANN401 - a row of audit
    return AuditEntry(
        row.id,
        row.at,
        Actor(_read(ActorKind, row.actor_kind), row.actor_id, row.actor_name, row.request_id),
        Deed(_read(Action, row.action), row.subject, row.customer_id, row.reason, row.author, row.detail),
    )


def _read(codes: type[_Code], text: str) -> _Code | str:
    """What a newer version has written beside this one is told as it stands."""
    try:
        return codes(text)
    except ValueError:
        return text
