"""Tokens of the issuer: what is asked of them, and what no token gets by."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from segment_api.tokens import LEEWAY_SECONDS, TokenInvalid, TokenReader, TokenRules, read_keys
from segmentation.access import ActorKind, Scope
from segmentation.errors import SettingInvalid

NOW: Final = datetime(2026, 11, 22, 8, tzinfo=UTC)
SECONDS: Final = int(NOW.timestamp())
RSA: Final = rsa.generate_private_key(65537, 2048)
OTHER_RSA: Final = rsa.generate_private_key(65537, 2048)
P256: Final = ec.generate_private_key(ec.SECP256R1())
P384: Final = ec.generate_private_key(ec.SECP384R1())
ED: Final = ed25519.Ed25519PrivateKey.generate()
RULES: Final = TokenRules("https://issuer.example", "tierline", ("RS256", "ES256", "EdDSA"), "scope", "")
CLAIMS: Final = {
    "iss": "https://issuer.example",
    "aud": "tierline",
    "sub": "tms-7",
    "iat": SECONDS - 10,
    "exp": SECONDS + 600,
    "scope": "read dispatch openid",
}


def pem(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def private_pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    kinds = {rsa.RSAPrivateKey: "RS256", ec.EllipticCurvePrivateKey: "ES256", ed25519.Ed25519PrivateKey: "EdDSA"}
    family = next(name for kind, name in kinds.items() if isinstance(key, kind))
    made: Any = jwt.algorithms.get_default_algorithms()[family].to_jwk(key.public_key())
    return {**json.loads(made), **more}


def reader(tmp_path: Path, text: str, rules: TokenRules = RULES, said: list[str] | None = None) -> TokenReader:
    file = tmp_path / "keys"
    file.write_text(text)
    return TokenReader(rules, file, complain=(said if said is not None else []).append)


def token(key: Any = RSA, algorithm: str = "RS256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    chosen = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    return jwt.encode(chosen, key, algorithm=algorithm, headers=headers)


def refusal(found: TokenReader, shown: str) -> str:
    with pytest.raises(TokenInvalid) as refused:
        found.read(shown, now=NOW)
    return str(refused.value)


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (P256, "ES256"), (ED, "EdDSA")])
@pytest.mark.parametrize("as_set", [True, False])
def test_a_good_token_says_who_it_is_and_what_it_may(tmp_path: Path, key: Any, algorithm: str, as_set: bool) -> None:
    text = json.dumps({"keys": [jwk(OTHER_RSA, kid="other"), jwk(key, kid="this")]}) if as_set else pem(key)
    principal, until = reader(tmp_path, text).read(token(key, algorithm, {"kid": "this"}, name="TMS"), now=NOW)
    assert (principal.kind, principal.id, principal.name) == (ActorKind.TOKEN, "tms-7", "TMS")
    assert principal.scopes == {Scope.READ, Scope.DISPATCH}
    assert until.timestamp() == SECONDS + 600 + LEEWAY_SECONDS


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"iss": "https://other.example"}, "another issuer"),
        ({"iss": None}, "missing"),
        ({"aud": "billing"}, "another audience"),
        ({"aud": ["billing", "crm"]}, "another audience"),
        ({"aud": None}, "missing"),
        ({"sub": None}, "missing"),
        ({"sub": ""}, "subject"),
        ({"sub": "x" * 300}, "subject"),
        ({"sub": "a\nb"}, "subject"),
        ({"exp": None}, "missing"),
        ({"exp": SECONDS - LEEWAY_SECONDS}, "expired"),
        ({"exp": "never"}, "exp"),
        ({"exp": 1e300}, "exp"),
        ({"exp": True}, "exp"),
        ({"iat": None}, "nbf nor iat"),
        ({"nbf": SECONDS + LEEWAY_SECONDS + 1}, "not count yet"),
        ({"iat": SECONDS + LEEWAY_SECONDS + 1}, "not count yet"),
        ({"nbf": "soon"}, "nbf"),
    ],
)
def test_a_token_that_is_not_for_us_or_not_now_does_not_count(
    tmp_path: Path, claims: dict[str, Any], said: str
) -> None:
    assert said in refusal(reader(tmp_path, pem(RSA)), token(**claims))


def test_clocks_may_differ_a_little(tmp_path: Path) -> None:
    found = reader(tmp_path, pem(RSA))
    found.read(token(exp=SECONDS - LEEWAY_SECONDS + 1), now=NOW)
    found.read(token(nbf=SECONDS + LEEWAY_SECONDS, iat=None), now=NOW)


def test_a_signature_of_another_key_does_not_count(tmp_path: Path) -> None:
    assert refusal(reader(tmp_path, pem(RSA)), token(OTHER_RSA)) == "its signature is wrong"


def encoded(part: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


@pytest.mark.parametrize("algorithm", ["none", "nOnE", "NONE", "", None, 5, ["RS256"]])
def test_a_token_without_a_signature_does_not_count(tmp_path: Path, algorithm: Any) -> None:
    shown = f"{encoded({'alg': algorithm, 'typ': 'JWT'})}.{encoded(CLAIMS)}."
    assert refusal(reader(tmp_path, pem(RSA)), shown) in (
        "its algorithm is not among those allowed",
        "it is no JWT",
    )


@pytest.mark.parametrize("text", [pem(RSA), pem(RSA).strip(), json.dumps({"keys": [jwk(RSA)]})])
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_never_a_shared_secret(tmp_path: Path, text: str, algorithm: str) -> None:
    """The oldest attack on JWTs: whoever has the public key signs with it."""
    signing_input = f"{encoded({'alg': algorithm, 'typ': 'JWT'})}.{encoded(CLAIMS)}"
    mac = hmac.new(text.encode(), signing_input.encode(), getattr(hashlib, "sha" + algorithm[2:])).digest()
    shown = f"{signing_input}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
    assert refusal(reader(tmp_path, text), shown) == "its algorithm is not among those allowed"


def test_an_algorithm_that_is_not_allowed_does_not_count(tmp_path: Path) -> None:
    assert "algorithm" in refusal(reader(tmp_path, pem(RSA)), token(RSA, "RS512"))


def test_a_key_counts_for_its_own_kind_only(tmp_path: Path) -> None:
    only_es384 = TokenRules("https://issuer.example", "tierline", ("ES256", "ES384"), "scope", "")
    assert "no key" in refusal(reader(tmp_path, pem(P384), only_es384), token(P256, "ES256"))
    assert "no key" in refusal(reader(tmp_path, json.dumps({"keys": [jwk(RSA, alg="PS256")]})), token())


def test_a_token_that_names_a_key_is_held_to_it(tmp_path: Path) -> None:
    keys = json.dumps({"keys": [jwk(RSA, kid="1"), jwk(OTHER_RSA, kid="2")]})
    assert "signature" in refusal(reader(tmp_path, keys), token(RSA, headers={"kid": "2"}))
    assert "no key" in refusal(reader(tmp_path, keys), token(RSA, headers={"kid": "3"}))


def test_a_token_brings_no_key_of_its_own(tmp_path: Path) -> None:
    for brought in ({"jwk": jwk(OTHER_RSA)}, {"jku": "https://evil.example/keys"}, {"x5u": "https://evil.example"}):
        assert "signature" in refusal(reader(tmp_path, pem(RSA)), token(OTHER_RSA, headers=brought))


def test_critical_extensions_are_not_overlooked(tmp_path: Path) -> None:
    refusal(reader(tmp_path, pem(RSA)), token(headers={"crit": ["exp-in-header"], "exp-in-header": 1}))


@pytest.mark.parametrize("shown", ["", ".", "..", "a.b.c", "x" * 9_000, "é.é.é", token()[:-1] + "é", token() + ".x"])
def test_what_is_no_token_is_said_to_be_none(tmp_path: Path, shown: str) -> None:
    assert refusal(reader(tmp_path, pem(RSA)), shown)


@pytest.mark.parametrize(
    ("claim", "prefix", "given", "expected"),
    [
        ("scope", "", "read operate", {Scope.READ, Scope.OPERATE}),
        ("scp", "", ["admin"], set(Scope)),
        ("roles", "tierline:", ["tierline:ingest", "admin"], {Scope.INGEST}),
        ("scope", "tierline:", "admin", set()),
        ("scope", "", "READ Admin superuser", set()),
        ("scope", "", 5, set()),
        ("scope", "", ["read", 5, None], {Scope.READ}),
        ("scope", "", {"read": True}, set()),
        ("scope", "", None, set()),
    ],
)
def test_scopes_come_from_the_claim_that_is_configured(
    tmp_path: Path, claim: str, prefix: str, given: Any, expected: set[Scope]
) -> None:
    rules = TokenRules("https://issuer.example", "tierline", ("RS256",), claim, prefix)
    principal, _ = reader(tmp_path, pem(RSA), rules).read(token(**{"scope": None} | {claim: given}), now=NOW)
    assert principal.scopes == expected


# --- the file of keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "0 keys"),
        ("no key", "0 keys"),
        ("{", "public keys are expected"),
        ("{}", "public keys are expected"),
        ('{"keys": [1]}', "key 0 is no object"),
        ('{"keys": []}', "0 keys"),
        (json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}), "secret or private"),
        (json.dumps({"keys": [jwk(RSA, d="AQAB")]}), "secret or private"),
        (private_pem(RSA), "PRIVATE KEY"),
        (pem(rsa.generate_private_key(65537, 1024)), "1024 bits"),
    ],
)
def test_a_file_that_is_none_of_public_keys_stops_the_start(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(SettingInvalid) as refused:
        read_keys(file)
    assert str(refused.value).startswith(f"JWT_KEYS_FILE is {file}: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def touch(file: Path, text: str, later: int) -> None:
    file.write_text(text)
    changed = file.stat().st_mtime_ns + later * 1_000_000_000
    os.utime(file, ns=(changed, changed))


def test_the_keys_may_change_without_a_restart(tmp_path: Path) -> None:
    said: list[str] = []
    found = reader(tmp_path, pem(RSA), said=said)
    touch(tmp_path / "keys", pem(OTHER_RSA), 5)
    found.read(token(OTHER_RSA), now=NOW)
    assert refusal(found, token(RSA)) == "its signature is wrong"
    assert said == []


def test_a_file_that_was_spoilt_leaves_the_keys_that_there_were(tmp_path: Path) -> None:
    said: list[str] = []
    found = reader(tmp_path, pem(RSA), said=said)
    touch(tmp_path / "keys", "half a fi", 5)
    found.read(token(), now=NOW)
    (tmp_path / "keys").unlink()
    found.read(token(), now=NOW)
    assert len(said) == 2
