"""What a ledger stands on: the house it remembers, its policy, its exchange rates."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from segmentation import policy as policies
from segmentation.errors import NotReady, SettingInvalid, StartRefused
from segmentation.ledger import House
from segmentation.money import MINOR_UNITS, Rate, Rates
from segmentation.policy import Policy
from segmentation.storage import tables
from segmentation.storage.bulk import insert_rows
from segmentation.storage.engine import transaction

_SETTING_OF = {"clock": "CLOCK", "base_currency": "BASE_CURRENCY", "time_zone": "BUSINESS_TIMEZONE"}

_REMEMBER = text("""
    -- The first to start decides what the data is built with.
    INSERT INTO house (id, clock, base_currency, time_zone, policy_version)
    VALUES (1, :clock, :base_currency, :time_zone, 0) ON CONFLICT DO NOTHING
""")
_LOAD_HOUSE = text("SELECT * FROM house")
_LOCK_HOUSE = text("SELECT * FROM house FOR UPDATE")
_LATEST_POLICY = text("SELECT version, source FROM policies ORDER BY version DESC LIMIT 1")
_ADD_POLICY = text("INSERT INTO policies (version, source) VALUES (:version, :source)")
_ACTIVATE_POLICY = text("UPDATE house SET policy_version = :version")
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


async def open_house(engine: AsyncEngine, house: House) -> None:
    """Remembers what the data is built with, or checks it.

    Raises:
        SettingInvalid: names the setting that differs, and both values.
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


async def load_state(connection: AsyncConnection) -> State:
    """The shared row."""
    row = (await connection.execute(_LOAD_HOUSE)).one()
    return State(row.as_of, row.policy_version, row.rates_version)


async def activate_policy(engine: AsyncEngine, source: str) -> int:
    """Puts a policy in force unless it is already the latest; the sweep takes everyone assessed by another one.

    Raises:
        PolicyInvalid: it cannot be used; nothing changed.
    """
    async with transaction(engine) as connection:
        await connection.execute(_LOCK_HOUSE)
        latest = (await connection.execute(_LATEST_POLICY)).one_or_none()
        if latest is not None and latest.source == source:
            return int(latest.version)
        version = int(latest.version) + 1 if latest else 1
        policies.parse(source, version=version)
        await connection.execute(_ADD_POLICY, {"version": version, "source": source})
        await connection.execute(_ACTIVATE_POLICY, {"version": version})
        return version


async def add_rates(engine: AsyncEngine, rates: Sequence[Rate]) -> None:
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


class Library:
    """Policies and rates by version, each read once."""

    def __init__(self, base_currency: str) -> None:
        self._base_currency = base_currency
        self._policies: dict[int, Policy] = {}
        self._rates: tuple[int, Rates] | None = None

    async def policy(self, connection: AsyncConnection, version: int) -> Policy:
        """The policy of a version."""
        if version not in self._policies:
            source = await connection.scalar(_POLICY_SOURCE, {"version": version})
            if source is None:
                raise NotReady("No policy is in force yet; start an ingest-worker, which brings one.")
            self._policies[version] = policies.parse(source, version=version, decimals=MINOR_UNITS[self._base_currency])
        return self._policies[version]

    async def rates(self, connection: AsyncConnection, version: int) -> Rates:
        """All rates as of a version of them."""
        if self._rates is None or self._rates[0] != version:
            rows = await connection.execute(_LOAD_RATES)
            self._rates = (
                version,
                Rates.of(self._base_currency, (Rate(row.currency, row.day, int(row.scaled_rate)) for row in rows)),
            )
        return self._rates[1]
