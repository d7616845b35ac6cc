"""What the integration tests share: one real Kafka for the whole run, and a site of its own for each test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.kafka import new_topics, require_distribution
from tests.support.workers import HOUSE, Site

from local_stack.kafka import EmbeddedKafka
from local_stack.kafka_distribution import KafkaDistribution
from segmentation.storage.engine import create_engine


@pytest.fixture(scope="session")
def distribution() -> KafkaDistribution:
    return require_distribution()


@pytest.fixture(scope="session")
def kafka(distribution: KafkaDistribution, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker for the whole run."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka"), distribution) as broker:
        yield broker


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url, application_name="tests", pool_size=2)
    yield engine
    await engine.dispose()


@pytest.fixture
def site(kafka: EmbeddedKafka, engine: AsyncEngine, database_url: str, tmp_path: Path) -> Iterator[Site]:
    """A migrated database and topics of four partitions; the workers started there end with the test."""
    topics = new_topics(kafka, partitions=4)
    with Site.of(
        engine, tmp_path, database_url=database_url, kafka=kafka.bootstrap_servers, topics=topics, house=HOUSE
    ) as site:
        yield site
