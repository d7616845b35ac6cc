"""Every column of every table has a word on whether it is personal, and what becomes of it."""

import pytest

from segmentation.storage import tables
from segmentation.storage.personal import INSTANTS, PERSONAL, Fate, Holding, Kind

TABLES = tables.metadata.tables
ABOUT_CUSTOMERS = {Kind.IDENTITY, Kind.CONTENT, Kind.DERIVED}
holdings = pytest.mark.parametrize(("name", "holding"), PERSONAL.items(), ids=PERSONAL)


def test_every_table_has_a_word() -> None:
    """Whoever adds a table says in `storage/personal.py` whether anybody is in it, and what becomes of that."""
    assert set(PERSONAL) == set(TABLES)


@holdings
def test_every_column_has_one_word(name: str, holding: Holding) -> None:
    named = " ".join(holding.columns.values()).split()
    assert sorted(named) == sorted(column.name for column in TABLES[name].columns)


@holdings
def test_where_customers_are_an_erasure_comes_and_nowhere_else(name: str, holding: Holding) -> None:
    assert (holding.fate is not Fate.KEPT) == bool(ABOUT_CUSTOMERS & set(holding.words.values())), name
    assert holding.purpose.endswith(".")


@holdings
def test_what_is_emptied_says_how(name: str, holding: Holding) -> None:
    assert (holding.fate is Fate.EMPTIED) == (holding.erase is not None)
    for column, kind in holding.words.items() if holding.erase else ():
        if kind in ABOUT_CUSTOMERS:
            assert f"{column} = " in (holding.erase or ""), (name, column)


def test_a_column_that_holds_an_id_is_never_called_nobodys() -> None:
    for name, holding in PERSONAL.items():
        if "customer_id" in holding.words:
            assert holding.words["customer_id"] is Kind.IDENTITY, name
            assert holding.fate is not Fate.KEPT, name


def test_instants_are_columns_of_numbers() -> None:
    columns = [column for table in TABLES.values() for column in table.columns if column.name in INSTANTS]
    assert {column.name for column in columns} == INSTANTS
    assert {str(column.type) for column in columns} == {"BIGINT"}
