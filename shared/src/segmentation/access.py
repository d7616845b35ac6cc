"""Who may do what, and who did: scopes, principals, API keys, and the trail of what was changed by hand.

Laws: a key is its id and a secret of 256 random bits, and only a digest of the secret is kept; nothing of a key
changes but its end and its last use, so another right is another key; whatever a person or a key changes is in the
trail with the change itself, in one transaction, or neither is there.
"""

import enum
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

KEY_MARK: Final = "tierline"
SECRET_BYTES: Final = 32
KEY_ID_BYTES: Final = 6
LONGEST_NAME: Final = 128
_TOKEN = re.compile(rf"({KEY_MARK}_([0-9a-f]{{12}}))_([A-Za-z0-9_-]{{43}})", re.ASCII)


class Scope(enum.StrEnum):
    """What a caller may be allowed to do."""

    READ = "read"
    INGEST = "ingest"
    DISPATCH = "dispatch"
    OPERATE = "operate"
    ADMIN = "admin"


_INCLUDED: Final[Mapping[Scope, frozenset[Scope]]] = {
    Scope.DISPATCH: frozenset({Scope.READ}),
    Scope.OPERATE: frozenset({Scope.READ}),
    Scope.ADMIN: frozenset(Scope),
}


def with_included(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """The scopes with those that they include: `admin` all of them, `operate` and `dispatch` `read`.

    >>> sorted(with_included([Scope.DISPATCH]))
    [<Scope.DISPATCH: 'dispatch'>, <Scope.READ: 'read'>]
    """
    return frozenset[Scope]().union(*({scope} | _INCLUDED.get(scope, frozenset()) for scope in scopes))


class ActorKind(enum.StrEnum):
    """How somebody is known to us."""

    ANYONE = "anyone"
    """Not at all: with AUTH=off."""
    KEY = "key"
    TOKEN = "token"  # noqa: S105 - a kind, no secret
    """By a JWT of the configured issuer."""
    COMMAND = "command"
    """By an account of the machine: whoever runs a command beside the database."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something."""

    kind: ActorKind | str
    """A text where a newer version than this one wrote it."""
    id: str
    """Of the key, the subject of the JWT, the account of the machine; empty for anyone."""
    name: str
    request_id: str | None = None


ANYONE: Final = Actor(ActorKind.ANYONE, "", "")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, and what it may do."""

    kind: ActorKind
    id: str
    name: str
    scopes: frozenset[Scope]
    """With those included."""
    requests_per_second: float | None = None
    """None: as many as the settings allow everyone."""

    def may(self, scope: Scope) -> bool:
        """Whether it has the scope, by itself or by one that includes it."""
        return scope in self.scopes

    def actor(self, request_id: str | None) -> Actor:
        """As the trail names it."""
        return Actor(self.kind, self.id, self.name, request_id)


EVERYONE: Final = Principal(ActorKind.ANYONE, "", "", frozenset(Scope))
"""Who asks with AUTH=off."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    """As they were given."""
    digest: bytes = field(repr=False)
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To the minute."""
    requests_per_second: float | None
    replaces: str | None
    """The key that it was rotated from."""

    @property
    def prefix(self) -> str:
        """The part of the key that is no secret."""
        return f"{KEY_MARK}_{self.id}"

    def ended(self, now: datetime) -> str | None:
        """Why it is no longer good; None while it is."""
        if self.revoked_at is not None and self.revoked_at <= now:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is about to be kept."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    digest: bytes = field(repr=False)
    expires_at: datetime | None = None
    requests_per_second: float | None = None


def write_key(key_id: str, secret: str) -> str:
    """A key as its holder gets it, once."""
    return f"{KEY_MARK}_{key_id}_{secret}"


def read_key(text: str) -> tuple[str, str] | None:
    """The id and the secret of a key; None for what has not the form of one."""
    match = _TOKEN.fullmatch(text)
    return None if match is None else (match[2], match[3])


def digest_of(secret: str) -> bytes:
    """What is kept of a secret.

    One round of SHA-256: a secret of 256 random bits cannot be guessed however fast guesses are, so a slow hash would
    only slow every request.
    """
    return hashlib.sha256(secret.encode()).digest()


class Keys(Protocol):
    """The keys that there are. All raise StoreUnavailable while the database is away."""

    async def find(self, key_id: str) -> ApiKey | None:
        """The key of an id, good or not."""

    async def all(self) -> Sequence[ApiKey]:
        """Every key there ever was, newest first."""

    async def create(self, key: NewKey, *, by: Actor, reason: str | None) -> ApiKey:
        """Keeps a new key."""

    async def revoke(self, key_id: str, *, by: Actor, reason: str | None, now: datetime) -> ApiKey | None:
        """Ends a key for good, at once; None for an unknown one. One revoked before stays as it is."""

    async def rotate(
        self,
        key_id: str,
        *,
        new_id: str,
        digest: bytes,
        overlap: timedelta,
        by: Actor,
        reason: str | None,
        now: datetime,
    ) -> ApiKey | None:
        """Keeps a new key of the same name, scopes and limit, and lets the old one expire after the overlap.

        None where the old one is unknown or no longer good.
        """

    async def note_uses(self, uses: Mapping[str, datetime]) -> None:
        """Keeps when keys were last used; never goes back."""


class Action(enum.StrEnum):
    """What somebody changed."""

    OVERRIDE_SET = "override.set"
    OVERRIDE_ENDED = "override.ended"
    POLICY_DRAFTED = "policy.drafted"
    POLICY_ACTIVATED = "policy.activated"
    POLICY_SCHEDULED = "policy.scheduled"
    POLICY_CANCELLED = "policy.cancelled"
    MODEL_PUBLISHED = "model.published"
    MODEL_ACTIVATED = "model.activated"
    MODEL_ROLLED_BACK = "model.rolled_back"
    DEAD_LETTER_REPLAYED = "dead_letter.replayed"
    KEY_CREATED = "key.created"
    KEY_REVOKED = "key.revoked"
    KEY_ROTATED = "key.rotated"
    CUSTOMER_ERASED = "customer.erased"
    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_DELETED = "webhook.deleted"
    WEBHOOK_ENABLED = "webhook.enabled"
    WEBHOOK_REPLAYED = "webhook.replayed"
    WEBHOOK_TESTED = "webhook.tested"
    PARTITION_RESUMED = "partition.resumed"
    PARTITIONS_REPOSITIONED = "partitions.repositioned"
    RATES_LOADED = "rates.loaded"
    EVENTS_DROPPED = "events.dropped"
    REBUILD_BEGUN = "rebuild.begun"
    DATABASE_RESTORED = "database.restored"
    SNAPSHOT_ASKED = "snapshot.asked"


@dataclass(frozen=True, slots=True)
class Deed:
    """What is to be in the trail of a change."""

    action: Action | str
    """A text where a newer version than this one wrote it."""
    subject: str | None = None
    """The version of a policy or a model, the dead letter, the key, the webhook, the partition, the snapshot, the hash
    of who was erased; None where it is a customer, or everything."""
    customer_id: str | None = None
    reason: str | None = None
    author: str | None = None
    """Whom the request names as the one who decided: a statement, not checked."""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A change, as the trail has it."""

    id: int
    at: datetime
    by: Actor
    deed: Deed


class AuditTrail(Protocol):
    """What was changed by hand. Raises StoreUnavailable while the database is away."""

    async def entries(
        self, *, action: Action | None, customer_id: str | None, before_id: int | None, limit: int
    ) -> Sequence[AuditEntry]:
        """The latest changes, newest first, below an id where one is given."""
