"""The published models over PostgreSQL."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation import scoring
from segmentation.access import ANYONE, Action, Actor, Deed
from segmentation.errors import ModelInvalid
from segmentation.ledger import House
from segmentation.scoring import Model
from segmentation.storage.audit import note_deeds
from segmentation.storage.engine import transaction
from segmentation.storage.foundation import LOCK_HOUSE, load_state
from segmentation.versions import ModelActivation, ModelActivationKind, ModelVersion, Refusal

_VERSIONS = text("""
    SELECT version, card, author, note, refusals, forced_because, created_at, version = house.model_version AS in_force
    FROM models CROSS JOIN house
    WHERE CAST(:version AS integer) IS NULL OR version = :version
    ORDER BY version DESC
""")
_DOCUMENT = text("SELECT document FROM models WHERE version = :version")
_ADD = text("""
    INSERT INTO models (version, document, card, author, note, refusals, forced_because)
    SELECT coalesce(max(version), 0) + 1, :document, CAST(:card AS jsonb), :author, :note, CAST(:refusals AS jsonb),
           :forced_because
    FROM models
    RETURNING version
""")
_ACTIVATIONS = text("SELECT * FROM model_activations ORDER BY id DESC LIMIT :limit")
_EVERY_STEP = text("SELECT version, kind FROM model_activations ORDER BY id")
_NOTE = text("""
    -- Before _SET, since it keeps what that replaces.
    INSERT INTO model_activations (version, kind, author, reason, replaced_version)
    VALUES (:version, :kind, :author, :reason, (SELECT nullif(model_version, 0) FROM house)) RETURNING *
""")
_SET = text("UPDATE house SET model_version = coalesce(CAST(:version AS integer), 0)")


class PostgresModels:
    """`segmentation.versions.Models` over PostgreSQL."""

    def __init__(self, engine: AsyncEngine, house: House) -> None:
        self._engine = engine
        self._house = house

    async def versions(self) -> Sequence[ModelVersion]:
        async with transaction(self._engine) as connection:
            return [_version(row) for row in await connection.execute(_VERSIONS, {"version": None})]

    async def find(self, version: int) -> ModelVersion | None:
        async with transaction(self._engine) as connection:
            return await _find(connection, version)

    async def document(self, version: int) -> str | None:
        async with transaction(self._engine) as connection:
            found: str | None = await connection.scalar(_DOCUMENT, {"version": version})
            return found

    async def activations(self, *, limit: int) -> Sequence[ModelActivation]:
        async with transaction(self._engine) as connection:
            return [_activation(row) for row in await connection.execute(_ACTIVATIONS, {"limit": limit})]

    async def publish(
        self,
        document: str,
        *,
        author: str,
        note: str | None,
        refusals: Sequence[Refusal],
        forced_because: str | None,
        by: Actor = ANYONE,
    ) -> ModelVersion:
        model = self._usable(document, version=0)
        added = {
            "document": document,
            "card": msgspec.json.encode(model.card).decode(),
            "author": author,
            "note": note,
            "refusals": msgspec.json.encode(refusals).decode() if refusals else None,
            "forced_because": forced_because,
        }
        async with transaction(self._engine) as connection:
            await connection.execute(LOCK_HOUSE)
            version = await connection.scalar(_ADD, added)
            detail = {"overruled": [each.rule for each in refusals], "forced_because": forced_because}
            deed = Deed(Action.MODEL_PUBLISHED, str(version), reason=note, author=author, detail=detail)
            await note_deeds(connection, by, [deed])
            found = await _find(connection, int(version or 0))
            assert found is not None  # noqa: S101 - just put there
            return found

    async def activate(self, version: int, *, author: str, reason: str, by: Actor = ANYONE) -> ModelActivation | None:
        async with transaction(self._engine) as connection:
            await connection.execute(LOCK_HOUSE)
            document = await connection.scalar(_DOCUMENT, {"version": version})
            if document is None:
                return None
            # Whatever was understood when it was put there must still be, before everyone is scored by it.
            self._usable(document, version=version)
            done = await _put_in_force(connection, version, ModelActivationKind.ACTIVATE, author, reason)
            detail = {"replaced": done.replaced_version}
            await note_deeds(connection, by, [Deed(Action.MODEL_ACTIVATED, str(version), None, reason, author, detail)])
            return done

    async def rollback(self, *, author: str, reason: str, by: Actor = ANYONE) -> ModelActivation | None:
        async with transaction(self._engine) as connection:
            await connection.execute(LOCK_HOUSE)
            if not (await load_state(connection)).model_version:
                return None
            stood: list[int | None] = [None]
            for row in await connection.execute(_EVERY_STEP):
                if row.kind == ModelActivationKind.ROLLBACK:
                    stood.pop()
                elif row.version != stood[-1]:
                    stood.append(row.version)
            done = await _put_in_force(connection, stood[-2], ModelActivationKind.ROLLBACK, author, reason)
            # About what is taken out of force: what follows may be no model at all.
            subject, detail = str(done.replaced_version), {"in_force_again": done.version}
            await note_deeds(connection, by, [Deed(Action.MODEL_ROLLED_BACK, subject, None, reason, author, detail)])
            return done

    def _usable(self, document: str, *, version: int) -> Model:
        model = scoring.parse(document, version=version)
        if model.base_currency != self._house.base_currency:
            raise ModelInvalid(
                f"the model counts in {model.base_currency}, and this data in {self._house.base_currency}; train it "
                f"with --currency {self._house.base_currency}"
            )
        return model


async def _put_in_force(
    connection: AsyncConnection, version: int | None, kind: ModelActivationKind, author: str, reason: str
) -> ModelActivation:
    asked = {"version": version, "kind": kind, "author": author, "reason": reason}
    noted = (await connection.execute(_NOTE, asked)).one()
    await connection.execute(_SET, {"version": version})
    return _activation(noted)


async def _find(connection: AsyncConnection, version: int) -> ModelVersion | None:
    row = (await connection.execute(_VERSIONS, {"version": version})).one_or_none()
    return None if row is None else _version(row)


def _version(row: Any) -> ModelVersion:  # noqa: ANN401 - a row of _VERSIONS
    return ModelVersion(
        version=row.version,
        in_force=row.in_force,
        author=row.author,
        note=row.note,
        created_at=row.created_at,
        card=row.card,
        refusals=[Refusal(*each) for each in row.refusals or ()],
        forced_because=row.forced_because,
    )


def _activation(row: Any) -> ModelActivation:  # noqa: ANN401 - a row of model_activations
    return ModelActivation(
        version=row.version,
        kind=ModelActivationKind(row.kind),
        author=row.author,
        reason=row.reason,
        activated_at=row.activated_at,
        replaced_version=row.replaced_version,
    )
