"""The API's settings."""

import ipaddress
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, FilePath, model_validator

from segment_api.tokens import ALGORITHMS
from segmentation.settings import HouseSettings

_WAYS: Final = ("keys", "jwt")


def _host(host: str) -> str:
    if host == "localhost":
        return host
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise ValueError("an IP address such as 127.0.0.1 is expected") from None


def _auth(auth: str) -> str:
    ways = [way.strip() for way in auth.split(",")]
    if ways == ["off"]:
        return "off"
    if len(set(ways)) < len(ways) or not set(ways) <= set(_WAYS):
        raise ValueError("off, keys, jwt or keys,jwt is expected")
    return ",".join(way for way in _WAYS if way in ways)


def _algorithms(algorithms: str) -> str:
    wanted = [name.strip() for name in algorithms.split(",")]
    if not set(wanted) <= set(ALGORITHMS):
        raise ValueError(f"some of {', '.join(ALGORITHMS)} are expected; those with a shared secret are not supported")
    return ",".join(wanted)


def _addresses(addresses: str | None) -> str | None:
    try:
        nets = [str(ipaddress.ip_network(each.strip())) for each in (addresses or "").split(",") if each.strip()]
    except ValueError:
        raise ValueError("IP addresses or networks are expected, with commas between") from None
    return ",".join(nets) or None


class ApiSettings(HouseSettings):
    """Where the API listens, and who may ask."""

    http_host: Annotated[str, AfterValidator(_host)] = Field(
        "127.0.0.1", description="Address to listen on; any but loopback needs AUTH."
    )
    http_port: int = Field(8080, ge=1, le=65_535, description="Port to listen on.")
    http_tls_cert_file: FilePath | None = Field(
        None, description="PEM file of the certificate, and those between it and its authority: serves HTTPS."
    )
    http_tls_key_file: FilePath | None = Field(None, description="PEM file of the certificate's private key.")
    http_trusted_proxies: Annotated[str | None, AfterValidator(_addresses)] = Field(
        None,
        description="Addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are believed, with commas "
        "between.",
    )
    auth: Annotated[str, AfterValidator(_auth)] = Field(
        "off",
        description="Who may ask. `off`: everyone who reaches the address, which therefore has to be loopback; `keys`: "
        "API keys; `jwt`: tokens of an issuer; `keys,jwt`: both.",
    )
    jwt_issuer: str | None = Field(None, min_length=1, description="The `iss` that tokens must have.")
    jwt_audience: str | None = Field(None, min_length=1, description="The `aud` that tokens must have.")
    jwt_keys_file: FilePath | None = Field(
        None,
        description="Public keys of the issuer, as PEM or as a JSON Web Key Set; read again when the file changes.",
    )
    jwt_algorithms: Annotated[str, AfterValidator(_algorithms)] = Field(
        "RS256,ES256", description="Algorithms of signatures that are accepted, with commas between."
    )
    jwt_scope_claim: str = Field(
        "scope", min_length=1, description="The claim that names scopes: words with spaces between, or a list."
    )
    jwt_scope_prefix: str = Field(
        "", description="What our scopes begin with in that claim, such as `tierline:`; all others are ignored."
    )
    docs_open: bool = Field(
        default=False,
        description="Whether /docs, /openapi.json and /asyncapi.json are shown without a key where AUTH is on. They "
        "show the interface and no data.",
    )
    rate_limit: float = Field(
        1_000,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="Requests a second that each key or token may make of each process, where the key has no limit of "
        "its own; twice as many at once. 0: any.",
    )
    concurrency_limit: int = Field(
        100, ge=1, le=10_000, description="Requests of one key or token that may be under way in each process."
    )
    auth_failures_per_minute: int = Field(
        30,
        ge=0,
        le=100_000,
        description="Wrong keys or tokens that one client address may show each process in a minute. 0: any.",
    )
    access_log: bool = Field(
        default=True,
        description="Whether each request is a line of the log: route, status, time, who; no customer, no payload.",
    )
    http_workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that answer, behind the one address: one for each core to be used. Each keeps answers "
        "and counts limits for itself.",
    )
    lookup_cache_mb: int = Field(
        64,
        ge=0,
        le=65_536,
        description="Memory of each process for answers that are kept ready, in MiB; one takes about 4 KiB. 0: none is "
        "kept.",
    )
    database_connections: int = Field(
        8,
        ge=1,
        le=100,
        description="Connections to the database of each process, at most; one more follows what changes.",
    )
    exports_at_once: int = Field(
        2, ge=0, le=50, description="Exports of customers at once, each on one of those connections; 0 for none."
    )

    @property
    def ways(self) -> list[str]:
        """How callers may prove who they are; none with AUTH=off."""
        return [] if self.auth == "off" else self.auth.split(",")

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> Self:
        loopback = self.http_host == "localhost" or ipaddress.ip_address(self.http_host).is_loopback
        if self.auth == "off" and not loopback:
            raise ValueError(
                f"HTTP_HOST is {self.http_host}, but AUTH=off serves loopback only: set AUTH=keys (see "
                "segment-api keys --help) or AUTH=jwt, or HTTP_HOST=127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _lookups_have_connections(self) -> Self:
        if self.exports_at_once >= self.database_connections:
            raise ValueError(
                f"EXPORTS_AT_ONCE is {self.exports_at_once}, which leaves none of the {self.database_connections} "
                "DATABASE_CONNECTIONS to anybody else: set it lower, or allow more connections"
            )
        return self

    @model_validator(mode="after")
    def _knows_its_issuer(self) -> Self:
        named = ("jwt_issuer", "jwt_audience", "jwt_keys_file")
        for name in named:
            if "jwt" in self.ways and getattr(self, name) is None:
                raise ValueError(f"{name.upper()} is not set; AUTH={self.auth} needs it")
            if "jwt" not in self.ways and getattr(self, name) is not None:
                raise ValueError(f"{name.upper()} is set, but AUTH={self.auth} takes no tokens; add jwt to AUTH")
        return self

    @model_validator(mode="after")
    def _has_both_halves(self) -> Self:
        halves: dict[str, Path | None] = {
            "HTTP_TLS_CERT_FILE": self.http_tls_cert_file,
            "HTTP_TLS_KEY_FILE": self.http_tls_key_file,
        }
        lacking = [name for name, file in halves.items() if file is None]
        if len(lacking) == 1:
            raise ValueError(f"{lacking[0]} is not set; TLS needs both the certificate and its key")
        return self
