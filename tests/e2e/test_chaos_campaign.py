"""A short fault campaign: what `make chaos` does, for half a minute and with one seed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from chaos.campaign import Options, run
from chaos.schedule import Kind, Lane, plan

from local_stack.kafka_distribution import KafkaDistribution

OPTIONS = Options(seed=6, seconds=30, per_second=60)


def test_the_short_campaign_has_faults_of_every_lane() -> None:
    faults = plan(OPTIONS.seed, seconds=OPTIONS.seconds, workers=OPTIONS.workers)
    assert {fault.lane for fault in faults} == set(Lane)
    assert {fault.kind for fault in faults} >= {
        Kind.WORKER_FROZEN,
        Kind.WORKER_KILLED,
        Kind.DATABASE_KILLED,
        Kind.DATABASE_DUMB,
        Kind.BROKER_KILLED,
    }


@pytest.mark.kafka
def test_a_short_campaign_ends_without_a_difference(distribution: KafkaDistribution, tmp_path: Path) -> None:
    told: list[str] = []
    report = asyncio.run(run(OPTIONS, tmp_path, distribution, told.append))
    assert report.differences == [], "\n".join([*told, *report.differences])
    assert report.faults.total() > 5
    assert report.messages > OPTIONS.seconds
    assert sum(report.outcomes.values()) == report.messages
    assert report.outcomes["applied"] > 0
