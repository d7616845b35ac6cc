"""Small ASCII tables in strings.

Laws: the first line names the columns, cells are stripped, an empty cell is an empty string; a row with too few or too
many cells is a mistake of the table, never of the rule.
"""

from fractions import Fraction

Row = dict[str, str]


def rows(table: str) -> list[Row]:
    """The rows of a table by column name."""
    lines = [line.strip() for line in table.strip().splitlines()]
    header, *body = [[cell.strip() for cell in line.split("|")] for line in lines if line]
    assert body, "the table has no rows"
    for cells in body:
        assert len(cells) == len(header), f"{cells} has {len(cells)} cells, the header {len(header)}"
    return [dict(zip(header, cells, strict=True)) for cells in body]


def agrees(cell: str, value: object) -> bool:
    """Whether a cell says the value: `none`, text, an integer, or a fraction such as 1/3 whose nearest double it is."""
    if cell == "none":
        return value is None
    if isinstance(value, float):
        return float(Fraction(cell)) == value
    return not isinstance(value, bool) and cell == str(value)
