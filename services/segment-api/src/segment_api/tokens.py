"""JWTs of one configured issuer: who they are for, until when, and what they allow.

Laws: only signatures that a public key of the file proves count, by an algorithm that is allowed and is that key's
own kind, so a token never chooses how it is checked, and no public key ever serves as an HMAC secret; issuer,
audience, subject and both ends of its life have to be in a token.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from segmentation.access import ActorKind, Principal, Scope, with_included
from segmentation.errors import SettingInvalid

ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
LEEWAY_SECONDS: Final = 30
_LONGEST_TOKEN = 8_192
_LONGEST_SUBJECT = 256
_MOST_KEYS = 20
_LEAST_RSA_BITS = 2_048
_OF_CURVE: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token has to be like."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    scope_claim: str
    scope_prefix: str
    """What our scopes begin with in the claim."""


@dataclass(frozen=True, slots=True)
class _Proof:
    """A public key, and the algorithms that it proves signatures of."""

    key_id: str | None
    key: PublicKey
    algorithms: frozenset[str]


class TokenInvalid(Exception):
    """The token does not count; says why. Claims are only spoken of where the signature is right."""


class TokenReader:
    """Reads tokens by the keys in a file, which is read again where it has changed."""

    def __init__(self, rules: TokenRules, keys_file: Path, *, complain: Callable[[str], None]) -> None:
        self._rules = rules
        self._file = keys_file
        self._complain = complain
        self._changed_at = self._file.stat().st_mtime_ns if self._file.exists() else 0
        self._proofs = read_keys(keys_file)

    def read(self, token: str, *, now: datetime) -> tuple[Principal, datetime]:
        """Whose token it is and until when it counts.

        Raises:
            TokenInvalid: it does not count.
        """
        self._look_again()
        if len(token) > _LONGEST_TOKEN:
            raise TokenInvalid("it is too long")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise TokenInvalid("it is no JWT") from None
        if header.get("alg") not in self._rules.algorithms:
            raise TokenInvalid("its algorithm is not among those allowed")
        claims = self._proved(token, header)
        until = self._lasting(claims, now)
        subject = claims["sub"]
        if not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
            raise TokenInvalid("its subject is empty, too long, or not printable")
        name = claims.get("name") or claims.get("preferred_username") or claims.get("client_id") or subject
        return Principal(ActorKind.TOKEN, subject, str(name)[:_LONGEST_SUBJECT], self._scopes(claims)), until

    def _proved(self, token: str, header: Mapping[str, Any]) -> Mapping[str, Any]:
        named = header.get("kid")
        candidates = [each for each in self._proofs if each.key_id is None or named is None or each.key_id == named]
        candidates = [each for each in candidates if header["alg"] in each.algorithms]
        if not candidates:
            raise TokenInvalid("no key of the issuer is its key")
        for proof in candidates:
            try:
                return jwt.decode(
                    token,
                    proof.key,
                    algorithms=[header["alg"]],
                    audience=self._rules.audience,
                    issuer=self._rules.issuer,
                    options={
                        "require": ["exp", "iss", "aud", "sub"],
                        # By our own clock, below.
                        "verify_exp": False,
                        "verify_nbf": False,
                        "verify_iat": False,
                    },
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidTokenError as error:
                raise TokenInvalid(_SAID.get(type(error), f"it is not as it should be: {error}")) from None
        raise TokenInvalid("its signature is wrong")

    @staticmethod
    def _lasting(claims: Mapping[str, Any], now: datetime) -> datetime:
        moments: dict[str, float] = {}
        for name in ("exp", "nbf", "iat"):
            if name in claims:
                value = claims[name]
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1 << 33:
                    raise TokenInvalid(f"its {name} is no time")
                moments[name] = float(value)
        if not moments.keys() & {"nbf", "iat"}:
            raise TokenInvalid("it says neither nbf nor iat: from when it counts")
        seconds = now.timestamp()
        if seconds >= moments["exp"] + LEEWAY_SECONDS:
            raise TokenInvalid("it has expired")
        if seconds < max(moments.get("nbf", 0.0), moments.get("iat", 0.0)) - LEEWAY_SECONDS:
            raise TokenInvalid("it does not count yet")
        return datetime.fromtimestamp(moments["exp"] + LEEWAY_SECONDS, UTC)

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        given = claims.get(self._rules.scope_claim)
        words = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
        prefix, known = self._rules.scope_prefix, {scope.value for scope in Scope}
        ours = [word.removeprefix(prefix) for word in words if isinstance(word, str) and word.startswith(prefix)]
        return with_included(Scope(word) for word in ours if word in known)

    def _look_again(self) -> None:
        """Takes the file's keys over where it has changed; a file that cannot be used leaves those there are."""
        try:
            changed_at = self._file.stat().st_mtime_ns
            if changed_at == self._changed_at:
                return
            self._changed_at = changed_at
            self._proofs = read_keys(self._file)
        except (OSError, SettingInvalid) as error:
            self._complain(str(error))


_SAID: Final[Mapping[type[Exception], str]] = {
    jwt.InvalidIssuerError: "it is of another issuer",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.MissingRequiredClaimError: "one of exp, iss, aud, sub is missing",
}


def read_keys(file: Path) -> Sequence[_Proof]:
    """The public keys of a file, PEM or JWKS.

    Raises:
        SettingInvalid: it cannot be read, or holds anything but public keys.
    """
    try:
        text = file.read_text(encoding="utf-8")
        proofs = list(_from_jwks(json.loads(text)) if text.lstrip().startswith("{") else _from_pem(text))
    except (OSError, ValueError, TypeError, jwt.PyJWTError) as error:
        raise SettingInvalid(
            f"JWT_KEYS_FILE is {file}: {error}; public keys are expected, as PEM or as a JSON Web Key Set"
        ) from None
    if not 0 < len(proofs) <= _MOST_KEYS:
        raise SettingInvalid(f"JWT_KEYS_FILE is {file}: it holds {len(proofs)} keys; 1 to {_MOST_KEYS} are expected")
    return proofs


def _from_pem(text: str) -> Iterable[_Proof]:
    for block in _PEM.finditer(text):
        match block[1]:
            case "PUBLIC KEY" | "RSA PUBLIC KEY":
                yield _proof(None, load_pem_public_key(block[0].encode()), None)
            case "CERTIFICATE":
                yield _proof(None, x509.load_pem_x509_certificate(block[0].encode()).public_key(), None)
            case other:
                raise ValueError(f"it holds a block {other!r}, which does not belong here")


def _from_jwks(document: Mapping[str, Any]) -> Iterable[_Proof]:
    for number, described in enumerate(document.get("keys", [document])):
        if not isinstance(described, dict):
            raise TypeError(f"key {number} is no object")
        if described.get("kty") == "oct" or "d" in described:
            raise ValueError(f"key {number} is a secret or private one; only public keys belong here")
        if described.get("use", "sig") == "sig":
            jwk = jwt.PyJWK(described, described.get("alg"))
            yield _proof(described.get("kid"), jwk.key, described.get("alg"))


def _proof(key_id: str | None, key: object, only: str | None) -> _Proof:
    if isinstance(key, RSAPublicKey):
        if key.key_size < _LEAST_RSA_BITS:
            raise ValueError(f"an RSA key has {key.key_size} bits; {_LEAST_RSA_BITS} are the least")
        algorithms = {name for name in ALGORITHMS if name[:2] in ("RS", "PS")}
        return _Proof(key_id, key, frozenset(algorithms & {only or name for name in algorithms}))
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _OF_CURVE:
        return _Proof(key_id, key, frozenset({_OF_CURVE[key.curve.name]}))
    if isinstance(key, Ed25519PublicKey):
        return _Proof(key_id, key, frozenset({"EdDSA"}))
    raise ValueError(f"a key of the kind {type(key).__name__} is not supported")
