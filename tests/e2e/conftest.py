"""What the end-to-end tests share: whether a real Kafka can be had."""

import pytest
from tests.support.kafka import require_distribution

from local_stack.kafka_distribution import KafkaDistribution


@pytest.fixture(scope="session")
def distribution() -> KafkaDistribution:
    return require_distribution()
