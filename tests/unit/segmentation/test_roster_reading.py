"""Everyone's ids, read from the one text that the database makes of them."""

import pytest

from segmentation.storage import tiers


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 8, 9, 1_000])
@pytest.mark.parametrize("ids", [[], ["A"], ["A", "B"], ["C-1", "C-22", "C-333"], [f"C-{n}" for n in range(40)]])
def test_every_id_is_read_once_wherever_the_pieces_join(
    monkeypatch: pytest.MonkeyPatch, ids: list[str], piece: int
) -> None:
    monkeypatch.setattr(tiers, "_PIECE", piece)
    assert [each.decode() for each in tiers._lines("\n".join(ids))] == ids
