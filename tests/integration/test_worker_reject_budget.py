"""The real worker against a bad deploy: the partition halts at one message, everything else goes on."""

from __future__ import annotations

from typing import Final

import pytest
from tests.support.builders import an_order, as_message
from tests.support.kafka import produce
from tests.support.oracle import Message
from tests.support.streams import require_exactly
from tests.support.workers import Site, WorkerProcess, command

from local_stack.kafka import EmbeddedKafka
from segmentation.answers import PartitionStatus
from segmentation.outcomes import Partition

pytestmark = pytest.mark.kafka
BAD: Final = Message(b'{"secret-of-a-customer')
EARLY: Final = as_message(an_order(occurred_at="1970-01-01T00:00:00Z"))


def good(count: int, *, of: str) -> list[Message]:
    """Orders of some customers, with ids of their own."""
    return [
        as_message(an_order(event_id=f"{of}-{n}", order_id=f"{of}-{n}", customer_id=f"C-{n % 7}", amount=f"{n + 1}.00"))
        for n in range(count)
    ]


async def at(site: Site, partition: Partition) -> PartitionStatus:
    found = [each for each in (await site.status()).partitions if each.partition == partition]
    return found[0] if found else PartitionStatus(partition, None, None, None)


async def has_halted(site: Site, partition: Partition) -> PartitionStatus:
    async def check() -> bool:
        return (await at(site, partition)).halt is not None

    await site.eventually(check, f"{partition} to halt")
    return await at(site, partition)


async def has_read_to(site: Site, partition: Partition, offset: int) -> None:
    async def check() -> bool:
        return (await at(site, partition)).next_offset == offset

    await site.eventually(check, f"{partition} to be read up to {offset}")


async def has_said(site: Site, worker: WorkerProcess, event: str) -> None:
    async def check() -> bool:
        return bool(worker.said(event))

    await site.eventually(check, f"{event} in the log")


@pytest.mark.parametrize("batch_messages", ["7", "2000"])
async def test_500_rejects_in_a_row_halt_the_partition_and_no_other_until_it_is_resumed(
    site: Site, kafka: EmbeddedKafka, batch_messages: str
) -> None:
    """At the 500th whatever the size of batches; through a restart; then on from there, each message once."""
    site.settings["BATCH_MESSAGES"] = batch_messages
    ill, sound = Partition(site.settings["TOPIC_ORDERS"], 0), Partition(site.settings["TOPIC_ORDERS"], 1)
    elsewhere = Partition(site.settings["TOPIC_RETURNS"], 0)
    there = [*good(10, of="before"), *[BAD] * 300, *[EARLY] * 300, *good(20, of="after")]
    beside = {sound: good(40, of="sound"), elsewhere: good(30, of="elsewhere")}
    await produce(kafka.bootstrap_servers, [(ill, message) for message in there])
    await produce(kafka.bootstrap_servers, [(part, each) for part, some in beside.items() for each in some])

    worker = site.start()
    halted = await has_halted(site, ill)
    assert halted.halt is not None
    assert (halted.halt.offset, halted.next_offset) == (509, 510)
    assert halted.halt.reasons == {"invalid_json": 300, "too_old": 200}
    for partition, messages in beside.items():
        await has_read_to(site, partition, len(messages))
    assert await site.read() == 510 + 40 + 30
    await has_said(site, worker, "partition.halted")
    said = worker.said("partition.halted")[0]
    assert (said["level"], said["topic"], said["partition"], said["offset"]) == ("error", ill.topic, 0, 509)
    assert said["reasons"] == {"invalid_json": 300, "too_old": 200}
    assert said["because"] == "500 messages in a row were rejected; 500 are too many"
    assert f"ingest-worker resume {ill.topic}/0" in said["remedy"]

    # a rebalance and a restart change nothing: what comes elsewhere is read, what comes here waits and is seen to
    again = site.start()
    await site.is_shared_by(worker, again)
    assert worker.stop() == 0
    await site.is_shared_by(again)
    late = {ill: good(5, of="late here"), sound: good(6, of="late there")}
    await produce(kafka.bootstrap_servers, [(part, each) for part, some in late.items() for each in some])
    await has_read_to(site, sound, 46)
    await has_said(site, again, "partition.halted")

    async def waits_visibly() -> bool:
        return (await at(site, ill)).lag == len(there) + 5 - 510

    await site.eventually(waits_visibly, "the lag of the halted partition to be shown")
    assert (await at(site, ill)).next_offset == 510

    # the running worker picks it up
    told = site.command("resume", f"{ill.topic}/0")
    assert f"{ill.topic}/0 goes on after offset 509" in told
    everything = [*there, *late[ill], *beside[sound], *late[sound], *beside[elsewhere]]
    await require_exactly(site, everything)
    assert (await at(site, ill)).halt is None
    assert again.stop() == 0
    assert all("secret-of-a-customer" not in each.log.read_text(encoding="utf-8") for each in site.workers)


async def test_more_than_half_of_the_last_1000_halts_and_whatever_is_still_wrong_halts_again(
    site: Site, kafka: EmbeddedKafka
) -> None:
    """Every second message good is within the budget; three bad in four are not, and use up the next one as well."""
    ill = Partition(site.settings["TOPIC_COMPLAINTS"], 2)
    orders = iter(good(3_000, of="x"))
    there = [BAD if n % 2 else next(orders) for n in range(1_400)]
    there += [BAD if n % 4 else next(orders) for n in range(1_600)]
    rejected = [message is BAD for message in there]
    first = next(n for n in range(999, 3_000) if sum(rejected[n - 999 : n + 1]) > 500)
    second = next(n for n in range(first + 1_000, 3_000) if sum(rejected[n - 999 : n + 1]) > 500)
    await produce(kafka.bootstrap_servers, [(ill, message) for message in there])
    worker = site.start(BATCH_MESSAGES="333")
    for offset in (first, second):
        halted = await has_halted(site, ill)
        assert halted.halt is not None
        assert (halted.halt.offset, halted.next_offset) == (offset, offset + 1)
        assert "of the last 1000 messages were rejected" in halted.halt.sentence
        told = site.command("resume", "--all")
        assert told.count("\n") == 1
        await has_read_to(site, ill, second + 1 if offset == first else len(there))
    await require_exactly(site, there)
    assert worker.stop() == 0


async def test_what_does_not_stand_halted_cannot_be_resumed(site: Site, kafka: EmbeddedKafka) -> None:
    """One sentence and exit code 1."""
    partition = Partition(site.settings["TOPIC_ORDERS"], 0)
    await produce(kafka.bootstrap_servers, [(partition, BAD)])
    site.start()
    await site.is_in(1)
    for arguments, why in (
        ([f"{partition.topic}/0"], f"{partition.topic}/0 does not stand halted"),
        ([f"{partition.topic}/99"], f"{partition.topic}/99 was never read by a worker"),
        (["--all"], "no partition stands halted"),
    ):
        done = command("resume", *arguments, settings=site.settings)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"ingest-worker: {why}; ")
        assert done.stderr.count("\n") == 1
