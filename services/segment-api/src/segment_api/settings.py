"""The API's settings."""

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from segmentation.settings import HouseSettings


def _host(host: str) -> str:
    if host == "localhost":
        return host
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise ValueError("an IP address such as 127.0.0.1 is expected") from None


class ApiSettings(HouseSettings):
    """Where the API listens, and who may ask."""

    http_host: Annotated[str, AfterValidator(_host)] = Field("127.0.0.1", description="Address to listen on.")
    http_port: int = Field(8080, ge=1, le=65_535, description="Port to listen on.")
    auth: Literal["off"] = Field(
        "off",
        description="Who may ask. `off`: everyone who reaches the address, which therefore has to be loopback.",
    )
    database_connections: int = Field(8, ge=1, le=100, description="Connections to the database, at most.")
    exports_at_once: int = Field(
        2, ge=0, le=50, description="Exports of customers at once, each on one of those connections; 0 for none."
    )

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> Self:
        if self.http_host != "localhost" and not ipaddress.ip_address(self.http_host).is_loopback:
            raise ValueError(
                f"HTTP_HOST is {self.http_host}, but AUTH=off serves loopback only: set HTTP_HOST=127.0.0.1 and put "
                "an authenticating proxy in front"
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
