"""Webhooks: changes are posted to whoever asked for them, signed; the rules, and the ports of the store.

Laws: a signature holds for one message, one moment and one body, under a secret that only the receiver has been told;
an address inside somebody's network is never called unless the operator allows it, by whatever name it goes; of one
webhook nothing is sent before all that came earlier was taken.
"""

import base64
import hmac
import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from segmentation.access import ANYONE, Actor
from segmentation.feeds import ChangeAnnouncement
from segmentation.streams import ChangeFilter

MOST_WEBHOOKS: Final = 100
MOST_CHANGES: Final = 100
"""In one message."""
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - by it receivers know what it is
SECRET_BYTES: Final = 32
_LONGEST_URL: Final = 2_048
_FIRST_RETRY_SECONDS: Final = 5.0
_LONGEST_RETRY_SECONDS: Final = 3_600.0
_GONE: Final = 410
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class WebhookRules:
    """What an operator allows."""

    allow_http: bool
    allow_private: bool


@dataclass(frozen=True, slots=True)
class WantedWebhook:
    """Where to, and of what."""

    url: str
    description: str | None
    wanted: ChangeFilter


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receiver of changes, and how far it is."""

    id: int
    url: str
    description: str | None
    wanted: ChangeFilter
    position: int
    """Every change up to it was taken, or is none that is wanted."""
    pending: int | None
    """The last position of a message that was refused: it is sent again as it was."""
    created_at: datetime
    failures: int
    """Tries in a row that failed."""
    failing_since: datetime | None
    next_try_at: datetime | None
    problem: str | None
    """Of the last try that failed, until one succeeds."""
    disabled_at: datetime | None
    disabled_because: str | None


@dataclass(frozen=True, slots=True)
class DueWebhook:
    """One with something to do now."""

    webhook: Webhook
    secret: str
    test: int | None
    """A number, where a person wants a message without changes to be sent."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message for a webhook."""

    id: str
    body: bytes
    changes: int
    last: int | None
    """The position that the webhook has reached once it is taken; None for a test."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver a message."""

    message_id: str
    changes: int
    status: int | None
    """Of the receiver's answer; None where there was none."""
    problem: str | None
    """None where it was taken."""
    milliseconds: int
    at: datetime | None = None
    id: int = 0


class Webhooks(Protocol):
    """What people do with webhooks. All raise StoreUnavailable while the database is away."""

    async def add(self, wanted: WantedWebhook, secret: str, *, after: int, by: Actor = ANYONE) -> Webhook | None:
        """Begins with what comes after a position; None where there are too many already."""

    async def listed(self) -> Sequence[Webhook]:
        """All of them, oldest first."""

    async def find(self, webhook_id: int) -> Webhook | None:
        """One of them."""

    async def remove(self, webhook_id: int, *, by: Actor = ANYONE) -> bool:
        """Forgets it, its secret and its log; says whether it was there."""

    async def ask_test(self, webhook_id: int, *, by: Actor = ANYONE) -> bool:
        """Wants a message without changes to be sent; says whether there is such a webhook."""

    async def go_on(self, webhook_id: int, *, after: int | None, by: Actor = ANYONE) -> Webhook | None:
        """Tries again at once, enabled, from where it stands or from another position."""

    async def attempts(self, webhook_id: int, *, before: int | None, limit: int) -> Sequence[Attempt]:
        """The log of a webhook, newest first."""


class Outgoing(Protocol):
    """What the deliverer asks of the store. All raise StoreUnavailable while the database is away."""

    async def due(self, *, except_for: Sequence[int]) -> Sequence[DueWebhook]:
        """Those with something to do."""

    async def reach(self, webhook: Webhook, position: int) -> None:
        """Nothing up to the position is wanted; nothing happens where the webhook has moved meanwhile."""

    async def taken(self, webhook: Webhook, parcel: Parcel, attempt: Attempt) -> None:
        """Notes an attempt that succeeded, and moves on."""

    async def refused(
        self, webhook: Webhook, parcel: Parcel, attempt: Attempt, *, again_in: float, disabled_because: str | None
    ) -> None:
        """Notes one that failed, and when to try again; or that it is given up."""

    async def disable(self, webhook: Webhook, because: str) -> None:
        """Stops, without an attempt."""

    async def drop_attempts(self, *, days: int, limit: int) -> int:
        """Drops old entries of the logs."""


def url_problem(url: str, rules: WebhookRules) -> str | None:
    """What is wrong with an address, as far as it can be said without asking for its name; None for nothing."""
    if len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        return f"an address of up to {_LONGEST_URL} printable ASCII characters is expected"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "it is no address; such as https://tms.example.com/tierline is expected"
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        return "an address such as https://tms.example.com/tierline is expected"
    if parts.scheme == "http" and not rules.allow_http:
        return "https is expected; WEBHOOK_ALLOW_HTTP=true allows http"
    if parts.username is not None or parts.password is not None:
        return "no user or password may be in it; the signature says who sends"
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return None
    return address_problem(address, rules)


def address_problem(address: Address, rules: WebhookRules) -> str | None:
    """Why an address may not be called; None where it may."""
    if rules.allow_private or _is_public(address):
        return None
    return (
        f"{address} is an address of a private network, of this machine, or for no single machine; "
        "WEBHOOK_ALLOW_PRIVATE=true allows it"
    )


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inside = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inside is None and address in _NAT64:
            inside = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inside is not None:
            return _is_public(inside)
    return address.is_global and not address.is_multicast and not address.is_reserved


def new_secret(chance: bytes) -> str:
    """A secret as its receiver is told it, once."""
    return SECRET_PREFIX + base64.b64encode(chance).decode()


def signed_headers(secret: str, parcel: Parcel, *, at: int) -> dict[str, str]:
    """The headers that a message goes with, by Standard Webhooks; `at` in seconds since 1970."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = b".".join((parcel.id.encode(), str(at).encode(), parcel.body))
    signature = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return {"webhook-id": parcel.id, "webhook-timestamp": str(at), "webhook-signature": f"v1,{signature}"}


def changes_parcel(webhook: Webhook, changes: Sequence[ChangeAnnouncement]) -> Parcel:
    """Changes in one message; the same changes give the same message."""
    last = changes[-1]
    data = [each.message().model_dump(mode="json", by_alias=True) for each in changes]
    body = _body("changes", last.recorded_at, data)
    return Parcel(f"{webhook.id}.{changes[0].position}-{last.position}", body, len(changes), last.position)


def check_parcel(due: DueWebhook, now: datetime) -> Parcel:
    """A message without changes, to see whether it arrives."""
    return Parcel(f"{due.webhook.id}.test-{due.test}", _body("test", now, []), 0, None)


def _body(kind: str, at: datetime, data: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps({"type": kind, "timestamp": at.isoformat(), "data": data}, separators=(",", ":")).encode()


def retry_seconds(failures: int, chance: float) -> float:
    """How long to wait after so many failures: longer each time, half of it by chance."""
    whole = min(_FIRST_RETRY_SECONDS * 2.0 ** min(failures, 20), _LONGEST_RETRY_SECONDS)
    return whole / 2 * (1 + chance)


def giving_up(webhook: Webhook, attempt: Attempt, *, now: datetime, hours: float) -> str | None:
    """Why it is not tried again after a failed attempt; None where it is."""
    if attempt.status == _GONE:
        return "the receiver answered 410: it is gone for good"
    since = webhook.failing_since
    if since is not None and (now - since).total_seconds() >= hours * 3_600:
        return f"every try failed for {hours:g} hours; the last one: {attempt.problem}"
    return None
