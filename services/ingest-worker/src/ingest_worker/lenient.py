"""Header names that are no UTF-8: Kafka carries them, the client's parser refuses the whole record.

A producer could stop a partition with one such name, so once a record cannot be parsed, this process goes
on with the client's slower parser, taught to take names as they are. It is a change to the client's inside,
made only then, and held by a test against the pinned version.
"""

from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record import default_records, memory_records


class _LenientBytes(bytearray):
    """Bytes whose pieces decode to text whatever they hold."""

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - an index or a slice
        piece = super().__getitem__(index)
        return _LenientBytes(piece) if isinstance(piece, bytearray) else piece

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


class _LenientBatch(default_records._DefaultRecordBatchPy):  # type: ignore[misc]  # noqa: SLF001 - see the module
    _buffer: Any

    def _read_msg(self, *arguments: Any) -> Any:  # noqa: ANN401 - of the client
        if not isinstance(self._buffer, _LenientBytes):
            self._buffer = _LenientBytes(self._buffer)
        return super()._read_msg(*arguments)


def read_leniently() -> None:
    """From now on every consumer of this process parses leniently."""
    memory_records.DefaultRecordBatch = _LenientBatch
    fetcher.MemoryRecords = memory_records._MemoryRecordsPy  # noqa: SLF001 - see the module
