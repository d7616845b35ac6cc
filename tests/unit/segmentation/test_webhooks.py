"""What a webhook's message is signed with, which addresses may be called, and when it is given up."""

import base64
import hashlib
import hmac
import ipaddress
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmentation.streams import ChangeFilter
from segmentation.webhooks import (
    Attempt,
    Parcel,
    Webhook,
    WebhookRules,
    address_problem,
    giving_up,
    new_secret,
    retry_seconds,
    signed_headers,
    url_problem,
)

NOW = datetime(2026, 11, 22, tzinfo=UTC)
STRICT = WebhookRules(allow_http=False, allow_private=False)
LENIENT = WebhookRules(allow_http=True, allow_private=True)
DOCS = Path(__file__).resolve().parents[3] / "docs" / "streams.md"


def a_webhook(**changed: Any) -> Webhook:
    fields: dict[str, Any] = {
        "id": 3, "url": "https://example.com/", "description": None, "wanted": ChangeFilter(), "position": 0,
        "pending": None, "created_at": NOW, "failures": 0, "failing_since": None, "next_try_at": None, "problem": None,
        "disabled_at": None, "disabled_because": None,
    }  # fmt: skip
    return Webhook(**fields | changed)


# --- signatures -----------------------------------------------------------------------------------------------------


def test_a_signature_is_the_one_that_the_standard_gives_as_its_example() -> None:
    body = b'{"test": 2432232314}'
    parcel = Parcel("msg_p5jXN8AQM9LWM0D4loKWxJek", body, 0, None)
    headers = signed_headers("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", parcel, at=1614265330)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 2**40), st.integers(0, 2**31))
def test_the_example_in_the_docs_takes_what_is_signed_and_nothing_else(
    chance: bytes, body: bytes, at: int, later: int
) -> None:
    (example,) = re.findall(r"^```python\n(import base64.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, str(DOCS), "exec"), names)
    verify, secret = names["verify"], new_secret(chance)
    headers = signed_headers(secret, Parcel("3.1-2", body, 2, 2), at=at)
    assert verify(secret, headers, body, now=at + later % 300)
    assert not verify(secret, headers, body + b" ", now=at)
    assert not verify(secret, headers | {"webhook-id": "3.1-3"}, body, now=at)
    assert not verify(secret, headers | {"webhook-timestamp": str(at + 1)}, body, now=at)
    assert not verify(new_secret(hashlib.sha256(chance).digest()), headers, body, now=at)
    assert not verify(secret, headers, body, now=at + 301)


def test_a_secret_holds_what_chance_gave() -> None:
    secret = new_secret(b"\x01" * 32)
    assert base64.b64decode(secret.removeprefix("whsec_")) == b"\x01" * 32
    signed = signed_headers(secret, Parcel("a", b"{}", 0, None), at=7)["webhook-signature"]
    expected = hmac.new(b"\x01" * 32, b"a.7.{}", hashlib.sha256).digest()
    assert signed == "v1," + base64.b64encode(expected).decode()


# --- addresses ------------------------------------------------------------------------------------------------------

INSIDE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1", "198.18.0.1", "192.0.2.1",
    "::1", "::", "fe80::1", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2002:a00:1::1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_a_network_is_not_called_unless_that_is_allowed(address: str) -> None:
    assert address_problem(ipaddress.ip_address(address), STRICT) is not None
    assert address_problem(ipaddress.ip_address(address), LENIENT) is None
    host = f"[{address}]" if ":" in address else address
    assert "WEBHOOK_ALLOW_PRIVATE" in (url_problem(f"https://{host}/x", STRICT) or "")
    assert url_problem(f"http://{host}/x", LENIENT) is None


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_may_be_called(address: str) -> None:
    assert address_problem(ipaddress.ip_address(address), STRICT) is None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://example.com/", "WEBHOOK_ALLOW_HTTP"),
        ("ftp://example.com/", "an address such as"),
        ("//example.com/", "an address such as"),
        ("https://", "an address such as"),
        ("https:///path", "an address such as"),
        ("https://example.com:0/", "an address such as"),
        ("https://example.com:99999/", "it is no address"),
        ("https://[::1/", "it is no address"),
        ("https://user:secret@example.com/", "no user or password"),
        ("https://user@example.com/", "no user or password"),
        ("https://exa mple.com/", "printable ASCII"),
        ("https://例子.com/", "printable ASCII"),
        ("https://example.com/\r\nx: y", "printable ASCII"),
        ("https://example.com/" + "x" * 2_048, "up to 2048"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(url: str, says: str) -> None:
    assert says in (url_problem(url, STRICT) or "")


@pytest.mark.parametrize("url", ["https://example.com", "https://example.com:8443/a/b?token=x", "https://8.8.8.8/"])
def test_a_usual_address_is_fine(url: str) -> None:
    assert url_problem(url, STRICT) is None


# --- trying again, giving up ----------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_waits_grow_and_stay_within_an_hour(failures: int, chance: float) -> None:
    wait = retry_seconds(failures, chance)
    assert 2.5 <= wait <= 3_600
    assert retry_seconds(failures + 1, chance) >= wait


def test_it_is_given_up_after_its_time_or_when_the_receiver_is_gone() -> None:
    def judged(failing_for: timedelta | None, status: int | None) -> str | None:
        since = None if failing_for is None else NOW - failing_for
        attempt = Attempt("3.1-1", 1, status, "the answer was 500", 5)
        return giving_up(a_webhook(failing_since=since), attempt, now=NOW, hours=24)

    assert judged(None, 500) is None
    assert judged(timedelta(hours=23, minutes=59), None) is None
    assert "24 hours" in (judged(timedelta(hours=24), 500) or "")
    assert "410" in (judged(None, 410) or "")


# --- filters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ChangeFilter(), True),
        (ChangeFilter(tiers=frozenset("A")), True),
        (ChangeFilter(tiers=frozenset("BC")), True),
        (ChangeFilter(tiers=frozenset(["unrated"])), False),
        (ChangeFilter(tiers=frozenset("A"), segments=frozenset(["core"])), False),
        (ChangeFilter(tiers=frozenset("B"), segments=frozenset(["core"])), True),
        (ChangeFilter(service_levels=frozenset(["vip"]), customer_ids=frozenset(["C-1"])), True),
        (ChangeFilter(customer_ids=frozenset(["C-2"])), False),
    ],
)
def test_a_filter_holds_for_one_side_as_a_whole(wanted: ChangeFilter, expected: bool) -> None:
    before = {"value_tier": "B", "segment": "core", "service_level": "stable"}
    after = {"value_tier": "A", "segment": "strategic", "service_level": "vip"}
    assert wanted.wants("C-1", (before, after)) is expected
    assert ChangeFilter(tiers=frozenset("A")).wants("C-1", (None, after))
