"""What a ledger stands on: the house it remembers, its policy, its model, its exchange rates."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation import policy as policies
from segmentation import scoring
from segmentation.access import ANYONE, Action, Actor, Deed
from segmentation.errors import ModelInvalid, NotReady, SettingInvalid, StartRefused
from segmentation.ledger import House
from segmentation.metrics import BucketTable
from segmentation.money import MINOR_UNITS, Rate, Rates
from segmentation.policy import Policy
from segmentation.risk import Outlooks, look_ahead
from segmentation.scoring import Model
from segmentation.storage import tables
from segmentation.storage.audit import note_deeds
from segmentation.storage.bulk import insert_rows
from segmentation.storage.engine import transaction
from segmentation.storage.suppression import settle_key

_SETTING_OF = {"clock": "CLOCK", "base_currency": "BASE_CURRENCY", "time_zone": "BUSINESS_TIMEZONE"}

_MODELS_AT_HAND: Final = 3
"""The one in force, and those that the past is told by."""
_AUTHOR = "POLICY_FILE"
"""Of what a worker brings."""

_REMEMBER = text("""
    -- The first to start decides what the data is built with.
    INSERT INTO house (id, clock, base_currency, time_zone, policy_version)
    VALUES (1, :clock, :base_currency, :time_zone, 0) ON CONFLICT DO NOTHING
""")
_LOAD_HOUSE = text("SELECT * FROM house")
LOCK_HOUSE = text("SELECT * FROM house FOR UPDATE")
LATEST_VERSION = text("SELECT max(version) FROM policies")
_SAME_SOURCE = text("SELECT version FROM policies WHERE source = :source ORDER BY version LIMIT 1")
_CHOSEN_ELSEWHERE = text("""
    -- Whether anything but texts shipped with the product was ever put in force.
    SELECT EXISTS (SELECT FROM policy_activations JOIN policies USING (version)
                   WHERE policies.origin <> 'shipped' OR policy_activations.author <> :author)
""")
_ADD_POLICY = text("""
    INSERT INTO policies (version, source, author, origin) VALUES (:version, :source, :author, :origin)
""")
NOTE_ACTIVATION = text("""
    -- Before ACTIVATE, since it keeps what that replaces.
    INSERT INTO policy_activations (version, on_day, author, reason, activated_at, replaced_version)
    VALUES (:version, :on_day, :author, :reason, now(), (SELECT nullif(policy_version, 0) FROM house)) RETURNING *
""")
ACTIVATE = text("UPDATE house SET policy_version = :version")
WAITING = "activated_at IS NULL AND cancelled_at IS NULL"
_ON_OR_BEFORE = "on_day <= coalesce(CAST(:today AS date), (SELECT as_of FROM house))"
_IS_DUE = text(f"SELECT EXISTS (SELECT FROM policy_activations WHERE {WAITING} AND {_ON_OR_BEFORE})")  # noqa: S608 - constants of our own
_TAKE_DUE = text(
    f"SELECT id, version FROM policy_activations WHERE {WAITING} AND {_ON_OR_BEFORE} ORDER BY on_day, id"  # noqa: S608 - constants of our own
)
_DONE = text("""
    UPDATE policy_activations SET activated_at = now(), replaced_version = (SELECT policy_version FROM house)
    WHERE id = :id
""")
_MODEL_DOCUMENT = text("SELECT document FROM models WHERE version = :version")
_POLICY_SOURCE = text("SELECT source FROM policies WHERE version = :version")
_LOAD_RATES = text("SELECT currency, day, scaled_rate FROM exchange_rates")
_RATES_CHANGED = text("UPDATE house SET rates_version = rates_version + 1")


@dataclass(frozen=True, slots=True)
class State:
    """The row that all parts of a ledger share, as it is right now."""

    as_of: date | None
    """With the event clock; the system clock's is today."""
    policy_version: int
    rates_version: int
    erasures: int
    """How many customers were ever erased."""
    erasure_key: str | None = field(repr=False)
    erasure_key_check: bytes | None
    model_version: int = 0
    """0 while none is in force."""


async def open_house(engine: AsyncEngine, house: House) -> None:
    """Remembers what the data is built with, or checks it.

    Raises:
        SettingInvalid: names the setting that differs, and both values but those of a key.
        StartRefused: the tables are missing.
    """
    async with transaction(engine) as connection:
        exists = await connection.scalar(text("SELECT to_regclass('house')"))
        if exists is None:
            raise StartRefused("the database has no tables yet; run `alembic -c migrations/alembic.ini upgrade head`")
        await connection.execute(
            _REMEMBER,
            {"clock": house.clock, "base_currency": house.base_currency, "time_zone": house.time_zone},
        )
        row = (await connection.execute(_LOAD_HOUSE)).one()
    for name, setting in _SETTING_OF.items():
        stored, given = getattr(row, name), getattr(house, name)
        if stored != given:
            raise SettingInvalid(
                f"{setting} is {given}, but this data was built with {stored}; "
                f"set {setting}={stored}, or start on an empty database"
            )
    async with transaction(engine) as connection:
        await settle_key(connection, house.erasure_key)


async def stored_house(engine: AsyncEngine) -> House:
    """What the data was built with.

    Raises:
        StartRefused: nobody has begun here yet.
    """
    async with transaction(engine) as connection:
        exists = await connection.scalar(text("SELECT to_regclass('house')"))
        row = None if exists is None else (await connection.execute(_LOAD_HOUSE)).one_or_none()
    if row is None:
        raise StartRefused("the database of DATABASE_URL holds nothing of Tierline yet; start an ingest-worker on it")
    return House(row.clock, row.base_currency, row.time_zone)


async def load_state(connection: AsyncConnection) -> State:
    """The shared row."""
    row = (await connection.execute(_LOAD_HOUSE)).one()
    return State(
        as_of=row.as_of,
        policy_version=row.policy_version,
        rates_version=row.rates_version,
        erasures=row.erasures,
        erasure_key=row.erasure_key,
        erasure_key_check=row.erasure_key_check,
        model_version=row.model_version,
    )


async def activate_policy(engine: AsyncEngine, source: str, *, shipped: bool = False) -> int:
    """Puts a worker's policy in force, where its text is new to the house; returns the version in force.

    A text that the house has seen stays where it is, so neither does a restart undo what was activated since, nor do
    workers with different files take turns. A text shipped with the product is taken only while nobody has ever chosen
    another: an upgrade does not overrule a choice. The sweep takes everyone assessed by another version.

    Raises:
        PolicyInvalid: it cannot be used; nothing changed.
    """
    async with transaction(engine) as connection:
        row = (await connection.execute(LOCK_HOUSE)).one()
        in_force = int(row.policy_version)
        known = await connection.scalar(_SAME_SOURCE, {"source": source})
        if in_force and (
            known is not None or (shipped and await connection.scalar(_CHOSEN_ELSEWHERE, {"author": _AUTHOR}))
        ):
            return in_force
        version = int(known or (await connection.scalar(LATEST_VERSION) or 0) + 1)
        policies.parse(source, version=version)
        if known is None:
            origin = "shipped" if shipped else "file"
            added = {"version": version, "source": source, "author": _AUTHOR, "origin": origin}
            await connection.execute(_ADD_POLICY, added)
        noted = {"version": version, "on_day": None, "author": _AUTHOR, "reason": None}
        await connection.execute(NOTE_ACTIVATION, noted)
        await connection.execute(ACTIVATE, {"version": version})
        return version


async def activate_due(engine: AsyncEngine, today: date | None) -> None:
    """Puts in force what is wanted from a day on that has come; `today` is None where the events' clock counts."""
    # A transaction of its own: whoever holds customers may lock the house, but never the other way round.
    async with transaction(engine) as connection:
        if not await connection.scalar(_IS_DUE, {"today": today}):
            return
        await connection.execute(LOCK_HOUSE)
        for row in (await connection.execute(_TAKE_DUE, {"today": today})).all():
            await connection.execute(_DONE, {"id": row.id})
            await connection.execute(ACTIVATE, {"version": row.version})


async def add_rates(engine: AsyncEngine, rates: Sequence[Rate], *, by: Actor = ANYONE) -> None:
    """Stores rates; one that is there already for its currency and day is replaced.

    What was applied keeps the rate that it was converted at.
    """
    async with transaction(engine) as connection:
        await insert_rows(
            connection,
            tables.exchange_rates,
            ("currency", "day", "scaled_rate"),
            ((rate.currency, rate.day, rate.scaled_rate) for rate in rates),
            then="ON CONFLICT (currency, day) DO UPDATE SET scaled_rate = EXCLUDED.scaled_rate",
        )
        await connection.execute(_RATES_CHANGED)
        detail = {"rates": len(rates), "currencies": sorted({rate.currency for rate in rates})}
        await note_deeds(connection, by, [Deed(Action.RATES_LOADED, detail=detail)])


class Deciders(NamedTuple):
    """What decides over customers."""

    policy: Policy
    model: Model | None
    """None also for one that cannot be used here."""
    model_version: int

    def look_ahead(self, table: BucketTable, as_of: date) -> Outlooks | None:
        """What the model says of some customers."""
        return look_ahead(self.model, table, as_of, decimals=self.policy.decimals)


class Library:
    """Policies, models and rates by version, each read once."""

    def __init__(self, base_currency: str) -> None:
        self._base_currency = base_currency
        self._policies: dict[int, Policy] = {}
        self._models: dict[int, Model | None] = {}
        self._rates: tuple[int, Rates] | None = None

    async def policy(self, connection: AsyncConnection, version: int) -> Policy:
        """The policy of a version."""
        if version not in self._policies:
            source = await connection.scalar(_POLICY_SOURCE, {"version": version})
            if source is None:
                raise NotReady("No policy is in force yet; start an ingest-worker, which brings one.")
            self._policies[version] = policies.parse(source, version=version, decimals=MINOR_UNITS[self._base_currency])
        return self._policies[version]

    async def model(self, connection: AsyncConnection, version: int) -> Model | None:
        """The model of a version; None for 0, and for one that cannot be used here.

        A model outlives the code that it was made for: after an upgrade with other features nobody is scored by it, and
        the rules decide until a new one is trained. So whatever is kept for having been scored is marked with the
        version in force, not with that of what this returns.
        """
        if not version:
            return None
        if version not in self._models:
            document = await connection.scalar(_MODEL_DOCUMENT, {"version": version})
            model = None if document is None else self._readable(document, version)
            while len(self._models) >= _MODELS_AT_HAND:
                del self._models[next(iter(self._models))]
            self._models[version] = model
        # The one used last goes last.
        model = self._models[version] = self._models.pop(version)
        return model

    async def deciders(self, connection: AsyncConnection, policy_version: int, model_version: int) -> Deciders:
        """Policy and model of these versions."""
        policy = await self.policy(connection, policy_version)
        return Deciders(policy, await self.model(connection, model_version), model_version)

    def _readable(self, document: str, version: int) -> Model | None:
        try:
            found = scoring.parse(document, version=version)
        except ModelInvalid:
            return None
        return found if found.base_currency == self._base_currency else None

    async def rates(self, connection: AsyncConnection, version: int) -> Rates:
        """All rates as of a version of them."""
        if self._rates is None or self._rates[0] != version:
            rows = await connection.execute(_LOAD_RATES)
            self._rates = (
                version,
                Rates.of(self._base_currency, (Rate(row.currency, row.day, int(row.scaled_rate)) for row in rows)),
            )
        return self._rates[1]
