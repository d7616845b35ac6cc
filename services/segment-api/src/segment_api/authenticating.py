"""Who asks: a key or a token becomes a principal, or a refusal with what to do about it.

Laws: nobody is anybody without proof; what was proved is remembered for a few seconds, by a digest of what was shown,
so that a revoked key is refused within `REVOKED_WITHIN_SECONDS`; keys in use are looked up beside the requests, so that
none waits for it, and all who do wait for one key wait for one look; while the database is away, a key that was good
goes on being so for a quarter of an hour, for nobody can revoke one either; guesses are counted by address, and memory
is bounded whatever is shown. Who is answered for long is asked again while the answer lasts, and that is no request.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

from segment_api.rates import Buckets
from segment_api.tokens import TokenInvalid, TokenReader
from segmentation.access import (
    EVERYONE,
    ActorKind,
    ApiKey,
    Keys,
    Principal,
    digest_of,
    read_key,
    with_included,
)
from segmentation.errors import StoreUnavailable

REVOKED_WITHIN_SECONDS: Final = 5.0
"""What was proved is looked up again after so long at the latest."""

_REFRESH_SECONDS = 2.0
"""From then on a key in use is looked up beside the requests."""

_IN_USE_SECONDS = 60.0
_MOST_REFRESHED = 200

_LOOK_AGAIN_SECONDS = 4.0
"""From then on one request looks it up, while the others go on with what is known."""

_AWAY_SECONDS = 900.0
"""For so long a key goes on while the database is away."""

_TRY_AGAIN_SECONDS = 1.0
_JOIN_SECONDS = 1.0
"""Who comes later does not rely on what was asked before."""
_NOTE_USE_SECONDS = 1.0
_MOST_REMEMBERED = 10_000
_BURST_SECONDS = 2.0
_NO_DIGEST = bytes(32)
_REALM = 'Bearer realm="tierline"'

StillMay = Callable[[], Awaitable[bool]]
"""Whether whoever asked may still be answered; raises StoreUnavailable where nobody can tell."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why somebody is not let in, as a problem."""

    status: int
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """How fast callers may be."""

    requests_per_second: float = 0.0
    """Of each key or subject, where the key has no limit of its own; 0: any."""
    failures_per_minute: float = 30.0
    """Of each address."""


@dataclass(slots=True)
class _Remembered:
    principal: Principal
    at: float
    until: float
    """When the key or token itself ends."""
    key_digest: bytes | None = None
    """Of the secret, as stored; None of a token."""
    noted_at: float = -math.inf
    """When its use was last noted."""
    looking: bool = False
    away_until: float = 0.0
    """The database was away: until then it is not asked again."""


class Authenticator:
    """Tells who asks. `keys` is None where no key counts, `tokens` where no token does; with neither all are let in."""

    def __init__(
        self,
        *,
        keys: Keys | None,
        tokens: TokenReader | None,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        limits: Limits,
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._now = now
        self._monotonic = monotonic
        self._limits = limits
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._requests = Buckets(monotonic)
        self._failures = Buckets(monotonic)
        self._uses: dict[str, datetime] = {}
        self._proving: dict[bytes, tuple[asyncio.Task[Principal | Refusal], float]] = {}
        """What is looked up at this moment, and since when."""
        self.open = keys is None and tokens is None

    async def principal(self, headers: Iterable[tuple[bytes, bytes]], client: str) -> Principal | Refusal:
        """Who asks, by the headers of the request and the address it came from.

        Raises:
            StoreUnavailable: the database is away, and this key has not been seen of late.
        """
        if self.open:
            return EVERYONE
        shown = [value for name, value in headers if name == b"authorization"]
        if len(shown) != 1:
            return _not_shown("Authorization was sent more than once; send it once." if shown else _NOTHING_SHOWN)
        digest = hashlib.sha256(shown[0]).digest()
        found = self._recall(digest) or await self._prove_once(shown[0], digest, client)
        return self._within_limits(found) if isinstance(found, Principal) else found

    async def still(self, principal: Principal, headers: Iterable[tuple[bytes, bytes]], client: str) -> bool:
        """Whether what let somebody in would do so now, for an answer that lasts; takes nothing from what it may ask.

        Raises:
            StoreUnavailable: the database is away, and this key has not been seen of late.
        """
        if self.open:
            return True
        (shown,) = (value for name, value in headers if name == b"authorization")
        digest = hashlib.sha256(shown).digest()
        found = self._recall(digest) or await self._prove_once(shown, digest, client)
        return isinstance(found, Principal) and found.scopes >= principal.scopes

    def at_once(self, digest: bytes | None) -> Principal | None:
        """Who asks, where that was proved a moment ago; else `principal` finds out, or says why not.

        Args:
            digest: SHA-256 of the header; None where none was sent.
        """
        if self.open:
            return EVERYONE
        return None if digest is None else self._recall(digest)

    def admits(self, principal: Principal) -> bool:
        """Takes one request from what somebody may ask now; takes nothing and returns False where that is none."""
        return principal is self._within_limits(principal)

    def _recall(self, digest: bytes) -> Principal | None:
        """What was proved a moment ago."""
        known = self._remembered.get(digest)
        if known is None:
            return None
        now = self._monotonic()
        if now >= known.until:
            return None
        age = now - known.at
        if age < _LOOK_AGAIN_SECONDS or (known.looking and age < REVOKED_WITHIN_SECONDS) or now < known.away_until:
            if known.principal.kind is ActorKind.KEY and now >= known.noted_at + _NOTE_USE_SECONDS:
                known.noted_at = now
                self._uses[known.principal.id] = self._now()
            return known.principal
        return None

    async def _prove_once(self, shown: bytes, digest: bytes, client: str) -> Principal | Refusal:
        """All who show the same at one moment wait for one proof; each of them for their own guesses."""
        address = _bucket_of(client)
        if digest not in self._remembered and (seconds := self._guesses(address, take=False)):
            return _too_many(f"Too many wrong keys or tokens came from {client}.", seconds)
        now = self._monotonic()
        proof, begun = self._proving.get(digest, (None, now))
        if proof is None or now - begun > _JOIN_SECONDS:
            proof = asyncio.get_running_loop().create_task(self._prove(shown, digest))
            self._proving[digest] = proof, now
            proof.add_done_callback(partial(self._proved, digest))
        found = await asyncio.shield(proof)  # who goes away does not take it from the others
        if isinstance(found, Refusal):
            self._guesses(address, take=True)
        return found

    def _proved(self, digest: bytes, proof: asyncio.Task[Principal | Refusal]) -> None:
        if self._proving.get(digest, (None, 0.0))[0] is proof:
            del self._proving[digest]

    async def _prove(self, shown: bytes, digest: bytes) -> Principal | Refusal:
        known, asked_at = self._remembered.get(digest), self._monotonic()
        key_digest = None
        scheme, _, credential = shown.decode("latin-1").partition(" ")
        parts = read_key(credential.strip())
        if scheme.lower() != "bearer":
            answer: tuple[Principal, float] | str = "the scheme Bearer is expected"
        elif parts is not None and self._keys is not None:
            answer = await self._by_key(self._keys, *parts, known)
            key_digest = digest_of(parts[1])
        elif self._tokens is not None and parts is None:
            answer = self._by_token(self._tokens, credential.strip())
        else:
            answer = "it is none that this service takes"
        if isinstance(answer, str):
            self._remembered.pop(digest, None)
            return _invalid(answer)
        principal, until = answer
        if known is not None and self._monotonic() < known.away_until:
            return principal
        if self._remembered.get(digest) is known:  # else it was found out meanwhile that it is over
            self._remember(digest, _Remembered(principal, asked_at, until, key_digest))
        return principal

    async def _by_key(
        self, keys: Keys, key_id: str, secret: str, known: _Remembered | None
    ) -> tuple[Principal, float] | str:
        key = None
        try:
            if known is None:
                key = await keys.find(key_id)
            else:
                known.looking = True
                async with asyncio.timeout(REVOKED_WITHIN_SECONDS - _LOOK_AGAIN_SECONDS):
                    key = await keys.find(key_id)
        except (StoreUnavailable, TimeoutError):
            now = self._monotonic()
            if known is None or now - known.at > _AWAY_SECONDS or now >= known.until:
                raise StoreUnavailable("the key cannot be looked up while the database is away") from None
            known.away_until = now + _TRY_AGAIN_SECONDS
            return known.principal, known.until
        finally:
            if known is not None:
                known.looking = False
        # An unknown id takes the same comparison as a wrong secret.
        right = hmac.compare_digest(digest_of(secret), key.digest if key else _NO_DIGEST)
        if key is None or not right:
            return "no such key is known"
        now_is = self._now()
        ended = key.ended(now_is)
        if ended is not None:
            return f"the key {key.prefix} is {ended}"
        self._uses[key.id] = now_is
        return _principal(key), self._until(key, now_is)

    def _until(self, key: ApiKey, now: datetime) -> float:
        lasts = math.inf if key.expires_at is None else (key.expires_at - now).total_seconds()
        return self._monotonic() + lasts

    def _by_token(self, tokens: TokenReader, token: str) -> tuple[Principal, float] | str:
        now = self._now()
        try:
            principal, until = tokens.read(token, now=now)
        except TokenInvalid as error:
            return f"the token does not count: {error}"
        return principal, self._monotonic() + (until - now).total_seconds()

    def _remember(self, digest: bytes, known: _Remembered) -> None:
        self._remembered[digest] = known
        self._remembered.move_to_end(digest)
        if len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.popitem(last=False)

    def _within_limits(self, principal: Principal) -> Principal | Refusal:
        rate = principal.requests_per_second
        if rate is None:
            rate = self._limits.requests_per_second
        if rate <= 0:
            return principal
        caller = principal.kind + " " + principal.id
        seconds = self._requests.take(caller, rate=rate, burst=max(1.0, rate * _BURST_SECONDS))
        return _too_many(f"More than {rate:g} requests a second came with this key.", seconds) if seconds else principal

    def _guesses(self, address: str, *, take: bool) -> float:
        burst = self._limits.failures_per_minute
        if burst <= 0:
            return 0.0
        ask = self._failures.take if take else self._failures.wait
        return ask(address, rate=burst / 60, burst=burst)

    async def refresh(self, keys: Keys) -> None:
        """Looks up again the keys used within the last minute, before what is known of them is too old to count.

        What cannot be looked up now is left as it is: requests find that out by themselves.
        """
        now = self._monotonic()
        # The one that was looked up longest ago comes first.
        in_use = [
            (digest, known)
            for digest, known in self._remembered.items()
            if known.key_digest is not None and now - known.noted_at < _IN_USE_SECONDS
        ]
        for digest, known in in_use[:_MOST_REFRESHED]:
            asked_at = self._monotonic()
            if self._remembered.get(digest) is not known or asked_at - known.at < _REFRESH_SECONDS:
                continue
            try:
                key = await keys.find(known.principal.id)
            except StoreUnavailable:
                return
            if self._remembered.get(digest) is not known:
                continue  # proved or refused meanwhile
            now_is = self._now()
            if key is None or key.digest != known.key_digest or key.ended(now_is) is not None:
                del self._remembered[digest]
                continue
            known.principal, known.at, known.until = _principal(key), asked_at, self._until(key, now_is)
            self._remembered.move_to_end(digest)

    async def note_uses(self, keys: Keys) -> None:
        """Keeps when keys were last used; what cannot be kept now is kept with the next call."""
        uses, self._uses = self._uses, {}
        try:
            await keys.note_uses(uses)
        except StoreUnavailable:
            self._uses = uses | self._uses


_NOTHING_SHOWN = "A key is needed: send Authorization: Bearer <key>."


def _principal(key: ApiKey) -> Principal:
    return Principal(ActorKind.KEY, key.id, key.name, with_included(key.scopes), key.requests_per_second)


def _not_shown(detail: str) -> Refusal:
    return Refusal(401, detail, {"WWW-Authenticate": _REALM})


def _invalid(why: str) -> Refusal:
    challenge = f'{_REALM}, error="invalid_token"'
    return Refusal(401, f"The key or token is not valid: {why}.", {"WWW-Authenticate": challenge})


def _too_many(what: str, seconds: float) -> Refusal:
    wait = max(1, math.ceil(seconds))
    return Refusal(429, f"{what} Try again in {wait} s.", {"Retry-After": str(wait)})


def _bucket_of(client: str) -> str:
    """The address by which guesses are counted: of IPv6 the network that one customer of a provider has."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if address.version == 6:  # noqa: PLR2004 - of IP
        return str(ipaddress.ip_network((address, 64), strict=False))
    return client
