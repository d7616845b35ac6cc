"""TLS to PostgreSQL, TLS and SASL to Kafka: real listeners with certificates made for the run."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from tests.support.builders import an_order, as_message
from tests.support.certificates import Authority, Pair
from tests.support.kafka import TOPIC_SETTINGS, new_topics, produce, spread
from tests.support.workers import HOUSE, ROOT, Site, command, environment

from local_stack.kafka import EmbeddedKafka
from local_stack.kafka_distribution import KafkaDistribution
from local_stack.ports import free_port
from local_stack.postgres import EmbeddedPostgres
from segmentation.errors import StartRefused
from segmentation.storage.engine import create_engine, transaction

PASSWORD: Final = "of-nobody-0815"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


class TlsFront:
    """Speaks TLS as PostgreSQL does (a request in the clear, then the handshake) in front of a server that cannot."""

    _REQUEST = struct.pack("!ii", 8, 80_877_103)

    def __init__(self, server: EmbeddedPostgres, pair: Pair, authority: Authority) -> None:
        self._server = server
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
        self._context.load_cert_chain(pair.certificate, pair.key)
        self._context.verify_mode = ssl.CERT_OPTIONAL
        self.port = 0
        self.met: list[str | None] = []
        """Of each connection by TLS, the name in the client's certificate."""

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        await self._listener.wait_closed()

    def url(self, options: str, host: str = "127.0.0.1") -> str:
        here = self._server.url.replace(f"127.0.0.1:{self._server.port}", f"{host}:{self.port}")
        return f"{here}?{options}"

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(8)
        if first == self._REQUEST:
            writer.write(b"S")
            await writer.drain()
            try:
                await writer.start_tls(self._context)
            except OSError:  # whoever does not believe us hangs up
                writer.close()
                return
            certificate = writer.get_extra_info("peercert")
            self.met.append(certificate["subject"][0][0][1] if certificate else None)
            first = b""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        far_writer.write(first)
        await asyncio.gather(self._pass_on(reader, far_writer), self._pass_on(far_reader, writer))

    @staticmethod
    async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while block := await reader.read(65_536):
                writer.write(block)
                await writer.drain()
        writer.close()


@pytest.fixture
async def front(postgres: EmbeddedPostgres, authority: Authority) -> AsyncIterator[TlsFront]:
    async with TlsFront(postgres, authority.vouch("database.test"), authority) as front:
        yield front


async def answers(url: str) -> bool:
    engine = create_engine(url, application_name="tests", pool_size=1)
    try:
        async with transaction(engine) as connection:
            return bool(await connection.scalar(text("SELECT 1")))
    finally:
        await engine.dispose()


async def test_the_database_is_spoken_to_by_tls(front: TlsFront, authority: Authority) -> None:
    assert await answers(front.url(f"sslmode=verify-full&sslrootcert={authority.file}"))
    assert await answers(front.url(f"sslmode=verify-ca&sslrootcert={authority.file}", "localhost"))
    assert await answers(front.url("sslmode=require"))
    assert front.met == [None] * 3
    assert await answers(front.url("sslmode=disable"))
    assert front.met == [None] * 3


async def test_the_database_knows_us_by_a_certificate(front: TlsFront, authority: Authority) -> None:
    ours = authority.vouch("tierline")
    options = f"sslmode=verify-full&sslrootcert={authority.file}&sslcert={ours.certificate}&sslkey={ours.key}"
    assert await answers(front.url(options))
    assert front.met == ["tierline"]


async def test_migrations_speak_tls_too(front: TlsFront, authority: Authority) -> None:
    url = front.url(f"sslmode=verify-full&sslrootcert={authority.file}")
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "alembic", "-c", "migrations/alembic.ini", "current"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment({"DATABASE_URL": url}),
    )
    assert done.returncode == 0, done.stderr
    assert front.met == [None]


async def test_a_database_that_nobody_vouches_for_is_not_talked_to(
    front: TlsFront, tmp_path: Path, authority: Authority
) -> None:
    stranger = Authority(tmp_path, "stranger")
    for options, host in (
        (f"sslmode=verify-full&sslrootcert={stranger.file}", "127.0.0.1"),
        (f"sslmode=verify-ca&sslrootcert={stranger.file}", "127.0.0.1"),
        ("sslmode=verify-full", "127.0.0.1"),  # the system's authorities
        (f"sslmode=verify-full&sslrootcert={authority.file}", "localhost"),  # another name than it has
    ):
        with pytest.raises(StartRefused, match="the certificate of the database is not believed"):
            await answers(front.url(options, host))


# --- Kafka ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SecuredKafka:
    broker: EmbeddedKafka
    by_password: str
    by_certificate: str
    """Where it listens for either."""


@pytest.fixture(scope="module")
def secured_kafka(
    distribution: KafkaDistribution, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecuredKafka]:
    """A broker with a listener for passwords, one for certificates, and a plain one for the test's own hand."""
    pair = authority.vouch("broker.test")
    plain, password, certificate, controller = (free_port() for _ in range(4))
    listeners = {"PLAINTEXT": plain, "PASSWORD": password, "CERTIFICATE": certificate}
    said = ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items())
    module = "org.apache.kafka.common.security"
    settings = {
        "listeners": f"{said},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": said,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PASSWORD:SASL_SSL,CERTIFICATE:SSL"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(pair.both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.file),
        "listener.name.certificate.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN",
        "listener.name.password.scram-sha-512.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
        "listener.name.password.scram-sha-256.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
        "listener.name.password.plain.sasl.jaas.config": (
            f'{module}.plain.PlainLoginModule required user_tierline="{PASSWORD}";'
        ),
    }
    place = tmp_path_factory.mktemp("secured-kafka")
    with EmbeddedKafka(place, distribution, port=plain, settings=settings) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        for mechanism in (ScramMechanism.SCRAM_SHA_512, ScramMechanism.SCRAM_SHA_256):
            wanted = UserScramCredentialUpsertion("tierline", ScramCredentialInfo(mechanism, 4096), PASSWORD.encode())
            for done in admin.alter_user_scram_credentials([wanted]).values():
                done.result(60)
        yield SecuredKafka(broker, f"127.0.0.1:{password}", f"127.0.0.1:{certificate}")


@pytest.fixture
async def secured_site(
    secured_kafka: SecuredKafka, engine: AsyncEngine, database_url: str, tmp_path: Path
) -> AsyncIterator[Site]:
    topics = new_topics(secured_kafka.broker, partitions=1)
    servers = secured_kafka.by_password
    with Site.of(engine, tmp_path, database_url=database_url, kafka=servers, topics=topics, house=HOUSE) as site:
        yield site


async def reads_and_writes(site: Site, secured: SecuredKafka, settings: Mapping[str, str]) -> None:
    """Whether a worker with these settings reads an order, and its change reaches the topic of changes."""
    topics = [site.settings[name] for name in TOPIC_SETTINGS]
    await produce(secured.broker.bootstrap_servers, spread([as_message(an_order())], topics, 1))
    worker = site.start(**settings)
    await site.is_in(1)

    async def relayed() -> bool:
        (row,) = await site.store.rows("SELECT relayed FROM feeds WHERE name = 'changes'")
        return bool(row.relayed)

    await site.eventually(relayed, "the change to be on its topic")
    assert worker.stop() == 0
    assert PASSWORD not in worker.log.read_text(encoding="utf-8")


@pytest.mark.kafka
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
async def test_a_worker_proves_itself_by_a_password_over_tls(
    secured_site: Site, secured_kafka: SecuredKafka, authority: Authority, tmp_path: Path, mechanism: str
) -> None:
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n", encoding="utf-8")
    settings = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SECURITY_CA_FILE": str(authority.file),
        "KAFKA_SECURITY_SASL_MECHANISM": mechanism,
        "KAFKA_SECURITY_USERNAME": "tierline",
        "KAFKA_SECURITY_PASSWORD_FILE": str(secret),
    }
    await reads_and_writes(secured_site, secured_kafka, settings)


@pytest.mark.kafka
async def test_a_worker_proves_itself_by_a_certificate(
    secured_site: Site, secured_kafka: SecuredKafka, authority: Authority
) -> None:
    ours: Pair = authority.vouch("worker")
    settings = {
        "KAFKA_BOOTSTRAP_SERVERS": secured_kafka.by_certificate,
        "KAFKA_SECURITY_PROTOCOL": "SSL",
        "KAFKA_SECURITY_CA_FILE": str(authority.file),
        "KAFKA_SECURITY_CERT_FILE": str(ours.certificate),
        "KAFKA_SECURITY_KEY_FILE": str(ours.key),
    }
    await reads_and_writes(secured_site, secured_kafka, settings)


# --- combinations that cannot work ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"DATABASE_URL": "{url}?sslmode=always"}, "DATABASE_URL has sslmode=always: one of disable"),
        ({"DATABASE_URL": "{url}?sslmode=verify-full&sslrootcert=/nowhere.pem"}, "sslrootcert /nowhere.pem"),
        ({"DATABASE_URL": "{url}?sslmode=prefer&sslrootcert=/x.pem"}, "verifies nothing"),
        ({"DATABASE_URL": "{url}?sslmode=verify-full&sslcert=/x.pem"}, "only one of sslcert and sslkey"),
        ({"DATABASE_URL": "{url}", "DATABASE_URL_FILE": "/x"}, "keep one of them"),
        ({"DATABASE_URL": "", "DATABASE_URL_FILE": "/nowhere"}, "DATABASE_URL_FILE is /nowhere: it cannot be read"),
        ({"KAFKA_SECURITY_USERNAME": "x"}, "KAFKA_SECURITY_PROTOCOL=PLAINTEXT names no user"),
        ({"KAFKA_SECURITY_CA_FILE": "{file}"}, "KAFKA_SECURITY_PROTOCOL=PLAINTEXT speaks no TLS"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SECURITY_CA_FILE": "{file}"}, "it cannot be used"),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SECURITY_CERT_FILE": "{file}"},
            "KAFKA_SECURITY_KEY_FILE is not set",
        ),
    ],
    ids=str,
)
def test_a_combination_that_cannot_work_stops_the_start_with_one_line(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    file = tmp_path / "empty.pem"
    file.touch()
    url = "postgresql://tierline:of-nobody@127.0.0.1:1/tierline"
    given = {name: value.format(url=url, file=file) for name, value in settings.items()}
    done = command("run", settings={"DATABASE_URL": url, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"} | given)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("ingest-worker: ")
    assert said in line
    assert "of-nobody" not in line
