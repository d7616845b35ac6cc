"""The worker's settings."""

import ipaddress
import re
import ssl
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, FilePath, SecretStr, model_validator

from segmentation.budget import RejectBudget
from segmentation.settings import HouseSettings

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)
_HIGHEST_PORT = 65_535
_SERVERS = re.compile(r"[^\s,:]+:[0-9]{1,5}(,[^\s,:]+:[0-9]{1,5})*")


def _topic(name: str) -> str:
    if not _TOPIC.fullmatch(name):
        raise ValueError("a topic name of 1 to 249 letters, digits, . _ - is expected")
    return name


def _servers(servers: str) -> str:
    ports = [int(server.rpartition(":")[2]) for server in servers.split(",")] if _SERVERS.fullmatch(servers) else [0]
    if not all(1 <= port <= _HIGHEST_PORT for port in ports):
        raise ValueError("host:port is expected, several separated by commas")
    return servers


def _host(host: str) -> str:
    if host == "localhost":
        return host
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise ValueError("an IP address such as 127.0.0.1 is expected") from None


Topic = Annotated[str, AfterValidator(_topic)]


class WorkerSettings(HouseSettings):
    """Where events come from and how much is taken at once."""

    kafka_bootstrap_servers: Annotated[str, AfterValidator(_servers)] = Field(
        description="Kafka brokers to begin with: host:port, several separated by commas."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How the brokers are spoken to: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."
    )
    kafka_security_ca_file: FilePath | None = Field(
        None, description="PEM file of the authorities that vouch for the brokers; where not set, the system's."
    )
    kafka_security_cert_file: FilePath | None = Field(
        None, description="PEM file of the certificate that proves this client to the brokers."
    )
    kafka_security_key_file: FilePath | None = Field(None, description="PEM file of that certificate's private key.")
    kafka_security_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."
    )
    kafka_security_username: str | None = Field(None, description="SASL user name.")
    kafka_security_password: SecretStr | None = Field(None, description="SASL password.")
    kafka_group_id: str = Field(
        "tierline-ingest", min_length=1, max_length=249, description="Consumer group that all workers share."
    )
    topic_orders: Topic = Field("logistics.orders", description="Topic of orders, cancellations and deliveries.")
    topic_returns: Topic = Field("logistics.returns", description="Topic of returns.")
    topic_complaints: Topic = Field("logistics.complaints", description="Topic of complaints.")
    topic_feedback: Topic = Field("logistics.feedback", description="Topic of feedback.")
    topic_customers: Topic = Field("logistics.customers", description="Topic of customer master data.")
    topic_changes: Topic = Field("segmentation.changes", description="Topic that changes are announced on (compacted).")
    topic_dead_letters: Topic = Field(
        "segmentation.dead-letters", description="Topic that rejected messages are announced on."
    )
    batch_messages: int = Field(10_000, ge=1, le=50_000, description="Most messages recorded in one transaction.")
    snapshot_hours: float = Field(
        24,
        ge=0,
        le=8_760,
        allow_inf_nan=False,
        description="Hours between full snapshots on the topic of changes; 0 makes them on demand only.",
    )
    webhook_give_up_hours: float = Field(
        24,
        gt=0,
        le=8_760,
        allow_inf_nan=False,
        description="A webhook that refused every message for so many hours is disabled until somebody enables it.",
    )
    retain_changes_days: int = Field(
        30,
        ge=1,
        le=36_500,
        description="Changes older than so many days are dropped once they are on their topic; until then "
        "`GET /changes` resumes from them.",
    )
    reject_budget_consecutive: int = Field(
        500, ge=1, le=1_000_000, description="A partition halts after so many rejected messages in a row."
    )
    reject_budget_window: int = Field(
        1_000,
        ge=1,
        le=10_000,
        description="How many of a partition's last messages REJECT_BUDGET_SHARE looks at; fewer are not judged.",
    )
    reject_budget_share: Decimal = Field(
        Decimal("0.5"),
        gt=0,
        le=1,
        description="A partition halts when more than this part of REJECT_BUDGET_WINDOW messages was rejected; "
        "with 1 it never does so for its share.",
    )
    policy_file: Path | None = Field(
        None,
        description="Policy that a start brings, if its text is new to the data; the one shipped where not set.",
    )
    worker_http_port: int | None = Field(
        None,
        ge=1,
        le=_HIGHEST_PORT,
        description="Port for the worker's own health and metrics, a different one for each worker of a machine; none "
        "where not set.",
    )
    worker_http_host: Annotated[str, AfterValidator(_host)] = Field(
        "127.0.0.1",
        description="Address that port listens on; 0.0.0.0 for probes from elsewhere. Whoever reaches it may ask: it "
        "shows partitions, counts and errors, no customer.",
    )

    retain_events_days: int | None = Field(
        None,
        ge=30,
        le=36_500,
        description="Raw events older than so many days are dropped, and with them duplicates are no longer "
        "recognised; what they counted stays. Where not set, all are kept.",
    )

    @model_validator(mode="after")
    def _names_its_user(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL"):
            for name in ("kafka_security_username", "kafka_security_password"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name.upper()} is not set; {self.kafka_security_protocol} needs it")
        return self

    @model_validator(mode="after")
    def _means_what_it_names(self) -> Self:
        protocol = self.kafka_security_protocol
        files = ("kafka_security_ca_file", "kafka_security_cert_file", "kafka_security_key_file")
        given = [name for name in files if getattr(self, name) is not None]
        if given and not protocol.endswith("SSL"):
            raise ValueError(f"{given[0].upper()} is set, but KAFKA_SECURITY_PROTOCOL={protocol} speaks no TLS")
        named = [name for name in ("kafka_security_username", "kafka_security_password") if getattr(self, name)]
        if named and not protocol.startswith("SASL"):
            raise ValueError(f"{named[0].upper()} is set, but KAFKA_SECURITY_PROTOCOL={protocol} names no user")
        if (self.kafka_security_cert_file is None) != (self.kafka_security_key_file is None):
            lacking = "KEY" if self.kafka_security_key_file is None else "CERT"
            raise ValueError(f"KAFKA_SECURITY_{lacking}_FILE is not set; a certificate and its key go together")
        if protocol.endswith("SSL"):
            try:
                self._tls_context()
            except OSError as error:
                files_said = ", ".join(f"{name.upper()} {getattr(self, name)}" for name in given)
                raise ValueError(f"{files_said}: it cannot be used ({error})") from None
        return self

    @model_validator(mode="after")
    def _never_reads_what_it_writes(self) -> Self:
        for name in ("topic_changes", "topic_dead_letters"):
            topic = getattr(self, name)
            if topic in self.topics:
                raise ValueError(f"{name.upper()} is {topic}, which is read as well; choose another topic to write to")
        return self

    @property
    def reject_budget(self) -> RejectBudget:
        """What each partition may have in rejects."""
        share = Fraction(self.reject_budget_share)
        return RejectBudget(self.reject_budget_consecutive, self.reject_budget_window, share)

    @property
    def topics(self) -> list[str]:
        """Every topic subscribed to, once."""
        return sorted(
            {self.topic_orders, self.topic_returns, self.topic_complaints, self.topic_feedback, self.topic_customers}
        )

    @property
    def security(self) -> dict[str, Any]:
        """The security arguments of an aiokafka client."""
        arguments: dict[str, Any] = {"security_protocol": self.kafka_security_protocol}
        if self.kafka_security_protocol in ("SSL", "SASL_SSL"):
            arguments["ssl_context"] = self._tls_context()
        if self.kafka_security_protocol.startswith("SASL"):
            password = self.kafka_security_password
            arguments |= {
                "sasl_mechanism": self.kafka_security_sasl_mechanism,
                "sasl_plain_username": self.kafka_security_username,
                "sasl_plain_password": password.get_secret_value() if password else None,
            }
        return arguments

    def _tls_context(self) -> ssl.SSLContext:
        """The names in certificates are checked; without a file the system's authorities are trusted."""
        context = ssl.create_default_context(cafile=self.kafka_security_ca_file)
        if self.kafka_security_cert_file is not None:
            context.load_cert_chain(self.kafka_security_cert_file, self.kafka_security_key_file)
        return context
