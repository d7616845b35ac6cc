"""Where a replay begins, when everything is in, and which topic a line goes to."""

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from local_stack.api import IngestStatus
from local_stack.failures import StackFailed
from local_stack.replay import Progress, is_in, measure, starting_point
from local_stack.topics import Topics

HALF = Progress("sha", "cluster", acknowledged=50)
DONE = replace(HALF, acknowledged=100, complete=True)


def _start(
    remembered: Progress | None,
    *,
    sha256: str = "sha",
    cluster: str = "cluster",
    read: int = 100,
    forgets: bool = False,
) -> int:
    found = starting_point(remembered, sha256=sha256, cluster=cluster, forgets=forgets, read=read)
    return -1 if found.complete else found.acknowledged


def test_a_first_replay_begins_at_the_start() -> None:
    assert _start(None) == 0


def test_a_replay_goes_on_behind_what_was_acknowledged_whether_or_not_it_was_read() -> None:
    assert _start(HALF, read=0) == 50


def test_a_finished_replay_has_nothing_left_on_any_broker() -> None:
    assert _start(DONE) == -1
    assert _start(DONE, cluster="in-process", forgets=True) == -1


def test_another_file_begins_at_the_start() -> None:
    assert _start(DONE, sha256="other") == 0


def test_another_cluster_holds_nothing_of_an_unfinished_replay() -> None:
    assert _start(HALF, cluster="other") == 0


def test_an_emptied_database_waits_for_the_same_cluster_to_be_read_again() -> None:
    assert _start(DONE, read=0) == 100


def test_an_emptied_database_and_a_broker_that_forgets_begin_at_the_start() -> None:
    forgotten = replace(DONE, cluster="in-process")
    assert _start(forgotten, cluster="in-process", read=0, forgets=True) == 0


STATUS = IngestStatus(
    events={"applied": 7, "duplicate": 1, "rejected": 1, "suppressed": 1},
    lag=0,
    next_offsets={("orders", 0): 6, ("returns", 0): 4},
    workers=frozenset({"host-1-a"}),
    tiers_current=True,
    customers=3,
    as_of="2011-12-09",
)


@pytest.mark.parametrize(
    ("status", "expected", "high_water", "answer"),
    [
        (STATUS, 10, {}, True),
        (STATUS, 10, {("orders", 0): 6}, True),
        (STATUS, 11, {}, False),
        (STATUS, 10, {("orders", 0): 7}, False),
        (STATUS, 10, {("orders", 1): 1}, False),
        (replace(STATUS, lag=1), 10, {}, False),
        (replace(STATUS, lag=None), 10, {}, False),
        (replace(STATUS, tiers_current=False), 10, {}, False),
    ],
)
def test_all_is_in_when_everything_is_counted_and_the_tiers_cover_it(
    status: IngestStatus, expected: int, high_water: dict[tuple[str, int], int], answer: bool
) -> None:
    assert is_in(status, expected=expected, high_water=high_water) is answer


@pytest.mark.parametrize(
    ("line", "topic", "key"),
    [
        (b'{"type": "order", "customer_id": "C-1"}', "logistics.orders", b"C-1"),
        (b'{"type": "order_cancelled", "customer_id": "C-1"}', "logistics.orders", b"C-1"),
        (b'{"type": "delivery", "customer_id": "C-1"}', "logistics.orders", b"C-1"),
        (b'{"type": "retraction", "customer_id": "C-1"}', "logistics.orders", b"C-1"),
        (b'{"type": "return", "customer_id": "C-1"}', "logistics.returns", b"C-1"),
        (b'{"type": "complaint", "customer_id": "C-1"}', "logistics.complaints", b"C-1"),
        (b'{"type": "feedback", "customer_id": "C-1"}', "logistics.feedback", b"C-1"),
        (b'{"type": "customer", "customer_id": "C-1"}', "logistics.customers", b"C-1"),
        (b'{"specversion": "1.0", "type": "com.a.return", "subject": "C-1", "data": {}}', "logistics.returns", b"C-1"),
        (b'{"specversion": "1.0", "type": "feedback", "data": {"customer_id": "C-2"}}', "logistics.feedback", b"C-2"),
        (b'{"type": 7, "customer_id": 8}', "logistics.orders", None),
        (b'{"type": ["return"]}', "logistics.orders", None),
        (b"[]", "logistics.orders", None),
        (b"\xff nonsense", "logistics.orders", None),
        (b'{"type": "order", "customer_id": "\\ud800"}', "logistics.orders", b"?"),
        (b"[" * 100_000, "logistics.orders", None),
    ],
)
def test_a_line_goes_to_the_topic_of_its_type_with_its_customer_as_the_key(
    line: bytes, topic: str, key: bytes | None
) -> None:
    assert Topics.of({}).route(line) == (topic, key)


def test_topics_have_the_names_that_the_environment_gives_them() -> None:
    topics = Topics.of({"TOPIC_RETURNS": "back", "TOPIC_ORDERS": ""})
    assert topics.route(b'{"type": "return"}') == ("back", None)
    assert topics.route(b'{"type": "order"}') == ("logistics.orders", None)
    assert topics.compacted == ["segmentation.changes"]


def test_plain_and_compressed_files_have_as_many_messages_as_lines_with_something_on_them(tmp_path: Path) -> None:
    content = b'{"a": 1}\r\n\n{"b": 2}\n{"c": 3}'
    (tmp_path / "plain.ndjson").write_bytes(content)
    (tmp_path / "events.ndjson.gz").write_bytes(gzip.compress(content))
    assert measure(tmp_path / "plain.ndjson")[1] == 3
    assert measure(tmp_path / "events.ndjson.gz")[1] == 3


def test_a_file_that_cannot_be_read_is_named_with_the_option(tmp_path: Path) -> None:
    broken = tmp_path / "events.ndjson.gz"
    broken.write_bytes(gzip.compress(b"x" * 10_000)[:30])
    for file in (broken, tmp_path / "none"):
        with pytest.raises(StackFailed, match=r"cannot be read.*--data"):
            measure(file)
