"""What the services are told: the user's environment, unchanged, and defaults for what it leaves open.

Laws: an explicit value of the environment always wins. A data directory goes on with the clock, currency and time
zone that it was made with, for the services refuse to start on data with others.
"""

from __future__ import annotations

from collections.abc import Mapping

from local_stack.failures import StackFailed
from local_stack.ports import LOOPBACK, free_port, require_free

_DEFAULT_PORT = 8080
_HIGHEST_PORT = 65_535
#: settings that the data is made with
_LASTING = ("CLOCK", "BASE_CURRENCY", "BUSINESS_TIMEZONE")
BUNDLED_CURRENCY = "GBP"
_REPLAYING = {"CLOCK": "event", "BASE_CURRENCY": BUNDLED_CURRENCY}
_EMPTY = {"CLOCK": "system", "BASE_CURRENCY": "CNY"}
#: the services' names for a secured Kafka, and librdkafka's
_SECURITY = {
    "KAFKA_SECURITY_PROTOCOL": "security.protocol",
    "KAFKA_SECURITY_SASL_MECHANISM": "sasl.mechanism",
    "KAFKA_SECURITY_USERNAME": "sasl.username",
    "KAFKA_SECURITY_PASSWORD": "sasl.password",
    "KAFKA_SECURITY_CA_FILE": "ssl.ca.location",
    "KAFKA_SECURITY_CERT_FILE": "ssl.certificate.location",
    "KAFKA_SECURITY_KEY_FILE": "ssl.key.location",
}

#: the services' default
_SASL_MECHANISM = "SCRAM-SHA-512"


def lasting_settings(
    environment: Mapping[str, str], remembered: Mapping[str, str] | None, *, replaying: bool
) -> dict[str, str]:
    """The clock, currency and time zone: of the environment, else of the data, else our defaults for fresh data.

    >>> lasting_settings({}, None, replaying=True)
    {'CLOCK': 'event', 'BASE_CURRENCY': 'GBP'}
    >>> lasting_settings({"CLOCK": "system"}, {"CLOCK": "event", "BASE_CURRENCY": "GBP"}, replaying=False)
    {'CLOCK': 'system', 'BASE_CURRENCY': 'GBP'}
    """
    known = remembered if remembered is not None else (_REPLAYING if replaying else _EMPTY)
    chosen = {name: environment.get(name) or known.get(name) for name in _LASTING}
    return {name: value for name, value in chosen.items() if value}


def service_environment(
    environment: Mapping[str, str],
    *,
    database_url: str,
    bootstrap_servers: str,
    own_kafka: bool,
    http_port: int,
    worker_port: int,
    lasting: Mapping[str, str],
) -> dict[str, str]:
    """What the worker, the API and the migrations are started with."""
    given = {
        name: value
        for name, value in environment.items()
        # the stack's own Kafka speaks plainly
        if not (own_kafka and name.startswith("KAFKA_SECURITY_"))
    }
    defaults = {"HTTP_HOST": LOOPBACK, "AUTH": "off"}
    filled = {name: given.get(name) or value for name, value in defaults.items()}
    return {
        **given,
        **filled,
        **lasting,
        "DATABASE_URL": database_url,
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "HTTP_PORT": str(http_port),
        "WORKER_HTTP_PORT": str(worker_port),
        # so that the end of a log is there when it is asked for
        "PYTHONUNBUFFERED": "1",
    }


def choose_http_port(environment: Mapping[str, str], option: int | None) -> tuple[int, bool]:
    """The API's port, and whether it is another than the usual one because that is taken."""
    chosen = _named_port(environment, "HTTP_PORT") if option is None else option
    host = environment.get("HTTP_HOST") or LOOPBACK
    if chosen is not None:
        require_free(chosen, what="the API", remedy="--http-port or HTTP_PORT", host=host)
        return chosen, False
    port = free_port(_DEFAULT_PORT, host)
    return port, port != _DEFAULT_PORT


def find_worker_port(environment: Mapping[str, str]) -> int | None:
    """The port that the user has chosen for the worker's health, if any; None leaves it to the stack."""
    port = _named_port(environment, "WORKER_HTTP_PORT")
    if port is not None:
        host = environment.get("WORKER_HTTP_HOST") or LOOPBACK
        require_free(port, what="the worker's health", remedy="WORKER_HTTP_PORT", host=host)
    return port


def _named_port(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _HIGHEST_PORT):
        raise StackFailed(f"{name}={text} is no port: set it to a number from 1 to {_HIGHEST_PORT}, or leave it unset.")
    return int(text)


def require_closed(environment: Mapping[str, str]) -> None:
    """Refuse to open an API without keys to the network by an oversight."""
    host = environment.get("HTTP_HOST") or LOOPBACK
    if not (host in ("localhost", "::1") or host.startswith("127.")):
        raise StackFailed(
            f"HTTP_HOST={host} would open the API to the network, and the local stack is for this machine: "
            "leave HTTP_HOST unset."
        )
    if environment.get("HTTP_TLS_CERT_FILE"):
        raise StackFailed("HTTP_TLS_CERT_FILE is set, and the local stack asks its API without TLS: leave it unset.")
    if environment.get("AUTH") == "jwt":
        raise StackFailed("AUTH=jwt leaves the local stack without a token to ask with: set AUTH=keys,jwt.")


def kafka_client(environment: Mapping[str, str], bootstrap_servers: str, *, own_kafka: bool) -> dict[str, str]:
    """What the stack's own Kafka clients need."""
    if own_kafka:
        return {"bootstrap.servers": bootstrap_servers}
    security = {theirs: environment[ours] for ours, theirs in _SECURITY.items() if environment.get(ours)}
    if security.get("security.protocol", "").startswith("SASL"):
        security.setdefault("sasl.mechanism", _SASL_MECHANISM)
    return {"bootstrap.servers": bootstrap_servers, **security}
