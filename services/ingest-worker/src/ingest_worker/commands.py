"""What an operator does by hand: load exchange rates, begin a broker anew."""

from pathlib import Path

from segmentation.errors import RatesInvalid
from segmentation.money import parse_rates
from segmentation.settings import HouseSettings
from segmentation.storage import foundation
from segmentation.storage.engine import create_engine
from segmentation.storage.ledger import PostgresLedger


async def load_rates(settings: HouseSettings, file: Path) -> str:
    """Stores the rates of a CSV file; returns what was done, in a sentence.

    Raises:
        RatesInvalid: the file cannot be read or understood; nothing was stored.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rates = parse_rates(lines, base_currency=settings.base_currency)
    except (OSError, UnicodeDecodeError) as error:
        raise RatesInvalid(f"{file} cannot be read: {error}") from None
    engine = create_engine(settings.database_url.get_secret_value(), application_name="load-rates", pool_size=1)
    try:
        await foundation.open_house(engine, settings.house)
        await foundation.add_rates(engine, rates)
    finally:
        await engine.dispose()
    currencies = {rate.currency for rate in rates}
    return f"{len(rates)} rates of {len(currencies)} currencies into {settings.base_currency} are loaded."


async def reposition(settings: HouseSettings) -> str:
    """Lets every partition be read from its beginning; returns what was done, in a sentence."""
    engine = create_engine(settings.database_url.get_secret_value(), application_name="reposition", pool_size=1)
    try:
        await foundation.open_house(engine, settings.house)
        await PostgresLedger(engine, settings.house).reposition()
    finally:
        await engine.dispose()
    return "Every partition will be read from its beginning; what was applied before will count as duplicate."
