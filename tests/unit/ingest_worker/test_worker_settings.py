"""The worker's settings: a bad one is one line that names it, a secret is never shown, and every one is documented."""

from __future__ import annotations

import re
import ssl
from fractions import Fraction
from pathlib import Path
from typing import Final

import pytest

from ingest_worker.settings import WorkerSettings
from segmentation.budget import DEFAULT_BUDGET, RejectBudget
from segmentation.errors import SettingInvalid
from segmentation.settings import HouseSettings, help_text

ROOT: Final = Path(__file__).resolve().parents[3]
SECRET: Final = "s3cr3t-words"
NAMES: Final = [name.upper() for name in WorkerSettings.model_fields]
REQUIRED: Final = {
    "DATABASE_URL": f"postgresql://tierline:{SECRET}@db.example:5432/tierline",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka.example:9092",
}
BAD: Final = [
    ("DATABASE_URL", f"mysql://tierline:{SECRET}@db.example/tierline"),
    ("DATABASE_URL", f"postgresql://tierline:{SECRET}@db.example"),
    ("DATABASE_URL", f"postgresql://tierline:{SECRET}@db.example/"),
    ("DATABASE_URL", f"{SECRET}"),
    ("BUSINESS_TIMEZONE", "Asia/Atlantis"),
    ("BUSINESS_TIMEZONE", "../etc/passwd"),
    ("BUSINESS_TIMEZONE", "/etc/localtime"),
    ("BUSINESS_TIMEZONE", "+08:00"),
    ("BASE_CURRENCY", "cny"),
    ("BASE_CURRENCY", "XXX"),
    ("BASE_CURRENCY", "XAU"),
    ("CLOCK", "Event"),
    ("CLOCK", "wall"),
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka.example"),
    ("KAFKA_BOOTSTRAP_SERVERS", "kafka.example:port"),
    ("KAFKA_BOOTSTRAP_SERVERS", "one:9092,,two:9092"),
    ("KAFKA_BOOTSTRAP_SERVERS", "one:9092, two:9092"),
    ("KAFKA_BOOTSTRAP_SERVERS", "PLAINTEXT://one:9092"),
    ("KAFKA_SECURITY_PROTOCOL", "TLS"),
    ("KAFKA_SECURITY_SASL_MECHANISM", "GSSAPI"),
    ("KAFKA_GROUP_ID", "g" * 250),
    *[(name, value) for name in NAMES if name.startswith("TOPIC_") for value in ("a topic", "a/b", "x" * 250, "订单")],
    ("BATCH_MESSAGES", "0"),
    ("BATCH_MESSAGES", "50001"),
    ("BATCH_MESSAGES", "-1"),
    ("BATCH_MESSAGES", "many"),
    ("BATCH_MESSAGES", "1.5"),
    ("WORKER_HTTP_PORT", "0"),
    ("WORKER_HTTP_PORT", "65536"),
    ("WORKER_HTTP_PORT", "http"),
    ("WORKER_HTTP_HOST", "example.com"),
    ("WORKER_HTTP_HOST", "127.0.0.1:80"),
    *[(f"REJECT_BUDGET_{name}", value) for name in ("CONSECUTIVE", "WINDOW") for value in ("0", "-1", "1.5", "half")],
    ("REJECT_BUDGET_CONSECUTIVE", "1000001"),
    ("REJECT_BUDGET_WINDOW", "10001"),
    *[("REJECT_BUDGET_SHARE", value) for value in ("0", "-0.1", "1.01", "50 %", "NaN", "Infinity")],
]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing set but what is required."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def refusal() -> str:
    with pytest.raises(SettingInvalid) as refused:
        WorkerSettings.load()
    return str(refused.value)


def test_what_is_not_set_has_the_documented_default() -> None:
    settings = WorkerSettings.load()
    assert settings.topics == [
        "logistics.complaints",
        "logistics.customers",
        "logistics.feedback",
        "logistics.orders",
        "logistics.returns",
    ]
    assert (settings.base_currency, settings.business_timezone, settings.clock) == ("CNY", "UTC", "system")
    assert settings.security == {"security_protocol": "PLAINTEXT"}
    assert settings.policy_file is None
    assert settings.reject_budget == DEFAULT_BUDGET


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_setting_is_one_line_that_names_it(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)
    sentence = refusal()
    assert sentence.startswith(f"{name} is ")
    assert "\n" not in sentence
    assert SECRET not in sentence
    if name != "DATABASE_URL":
        assert repr(value) in sentence


@pytest.mark.parametrize("name", list(REQUIRED))
@pytest.mark.parametrize("value", [None, ""])
def test_a_required_setting_that_is_missing_is_named(
    environment: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    """An empty value is none."""
    if value is None:
        environment.delenv(name)
    else:
        environment.setenv(name, value)
    sentence = refusal()
    assert sentence.startswith(f"{name} is not set")
    assert "\n" not in sentence


@pytest.mark.parametrize("name", [name for name in NAMES if name not in REQUIRED])
def test_an_empty_setting_is_not_set(environment: pytest.MonkeyPatch, name: str) -> None:
    expected = WorkerSettings.load()
    environment.setenv(name, "")
    assert WorkerSettings.load() == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgres://tierline@db/tierline"),
        ("DATABASE_URL", "postgresql+asyncpg://tierline:a%2Fb@[::1]:5432/tierline?ssl=require"),
        ("BUSINESS_TIMEZONE", "Pacific/Apia"),
        ("BASE_CURRENCY", "KWD"),
        ("KAFKA_BOOTSTRAP_SERVERS", "one:9092,two.example:9093"),
        ("TOPIC_ORDERS", "eu-1.Orders_2"),
        ("TOPIC_ORDERS", "x" * 249),
        ("KAFKA_GROUP_ID", "g" * 249),
        ("BATCH_MESSAGES", "1"),
        ("BATCH_MESSAGES", "50000"),
        ("WORKER_HTTP_PORT", "1"),
        ("WORKER_HTTP_PORT", "65535"),
        ("WORKER_HTTP_HOST", "0.0.0.0"),
        ("WORKER_HTTP_HOST", "::1"),
        ("WORKER_HTTP_HOST", "localhost"),
        ("REJECT_BUDGET_CONSECUTIVE", "1"),
        ("REJECT_BUDGET_CONSECUTIVE", "1000000"),
        ("REJECT_BUDGET_WINDOW", "1"),
        ("REJECT_BUDGET_WINDOW", "10000"),
        ("REJECT_BUDGET_SHARE", "0.000001"),
        ("REJECT_BUDGET_SHARE", "1"),
    ],
)
def test_settings_at_their_limits_are_taken(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)
    WorkerSettings.load()


def test_a_share_is_taken_exactly(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REJECT_BUDGET_SHARE", "0.1")
    environment.setenv("REJECT_BUDGET_WINDOW", "10")
    assert WorkerSettings.load().reject_budget == RejectBudget(window=10, share=Fraction(1, 10))


def test_one_topic_may_carry_everything(environment: pytest.MonkeyPatch) -> None:
    for kind in ("ORDERS", "RETURNS", "COMPLAINTS", "FEEDBACK", "CUSTOMERS"):
        environment.setenv(f"TOPIC_{kind}", "everything")
    assert WorkerSettings.load().topics == ["everything"]


def test_secrets_are_in_no_text(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    environment.setenv("KAFKA_SECURITY_USERNAME", "tierline")
    environment.setenv("KAFKA_SECURITY_PASSWORD", SECRET)
    settings = WorkerSettings.load()
    assert SECRET not in f"{settings!r}{settings}{settings.model_dump()!r}{settings.model_dump_json()}"


def test_a_bad_setting_beside_a_good_secret_does_not_show_it(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KAFKA_SECURITY_PASSWORD", SECRET)
    environment.setenv("BATCH_MESSAGES", "none")
    assert SECRET not in refusal()


def test_security_by_password_is_what_the_client_wants(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    environment.setenv("KAFKA_SECURITY_USERNAME", "tierline")
    environment.setenv("KAFKA_SECURITY_PASSWORD", SECRET)
    security = WorkerSettings.load().security
    context = security.pop("ssl_context")
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert security == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "tierline",
        "sasl_plain_password": SECRET,
    }


def test_security_without_encryption_makes_no_context(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    environment.setenv("KAFKA_SECURITY_SASL_MECHANISM", "PLAIN")
    environment.setenv("KAFKA_SECURITY_USERNAME", "tierline")
    environment.setenv("KAFKA_SECURITY_PASSWORD", SECRET)
    security = WorkerSettings.load().security
    assert security["sasl_mechanism"] == "PLAIN"
    assert "ssl_context" not in security


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "KAFKA_SECURITY_USERNAME is not set"),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SECURITY_USERNAME": "tierline"},
            "KAFKA_SECURITY_PASSWORD is not set",
        ),
        ({"KAFKA_SECURITY_CA_FILE": "/nowhere/ca.pem"}, "KAFKA_SECURITY_CA_FILE is '/nowhere/ca.pem'"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:99999"}, "KAFKA_BOOTSTRAP_SERVERS is '127.0.0.1:99999'"),
        ({"DATABASE_URL": "postgresql://u:p@127.0.0.1:99999/t"}, "DATABASE_URL is set to something else"),
        ({"TOPIC_CHANGES": "logistics.orders"}, "TOPIC_CHANGES is logistics.orders, which is read as well"),
    ],
    ids=["no user", "no password", "no file", "no port", "no database port", "reads what it writes"],
)
def test_settings_that_cannot_work_are_told_at_the_start(
    environment: pytest.MonkeyPatch, settings: dict[str, str], told: str
) -> None:
    for name, value in settings.items():
        environment.setenv(name, value)
    with pytest.raises(SettingInvalid, match=re.escape(told)):
        WorkerSettings.load()


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_documented(name: str) -> None:
    """In docs/settings.md with the very texts of `--help`."""
    field = WorkerSettings.model_fields[name.lower()]
    default = "required" if field.is_required() else f"`{field.default}`" if field.default is not None else "–"
    documentation = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert f"| `{name}` | {field.description} | {default} |" in documentation


def test_the_help_names_every_setting_with_its_meaning() -> None:
    text = help_text(WorkerSettings)
    for name in NAMES:
        assert f"  {name}\n" in text
        assert str(WorkerSettings.model_fields[name.lower()].description) in text
    assert "KAFKA" not in help_text(HouseSettings)


# --- the erasure key, which both services have ----------------------------------------------------------------------

KEY: Final = "0123456789abcdef0123456789abcdef"


def test_the_erasure_key_comes_from_its_setting_or_from_a_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert WorkerSettings.load().house.erasure_key is None
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    environment.setenv("ERASURE_KEY_FILE", str(file))
    house = WorkerSettings.load().house
    assert house.erasure_key == KEY
    assert KEY not in repr(house)
    environment.setenv("ERASURE_KEY", KEY)
    assert refusal() == "ERASURE_KEY_FILE is set and ERASURE_KEY as well; keep one of them"
    environment.delenv("ERASURE_KEY_FILE")
    assert WorkerSettings.load().house == house


def test_an_erasure_key_that_could_be_guessed_is_refused_and_not_shown(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.setenv("ERASURE_KEY", KEY[:-1])
    assert refusal().startswith("ERASURE_KEY is set to something else: at least 32 characters are expected")
    environment.delenv("ERASURE_KEY")
    file = tmp_path / "key"
    file.write_text(KEY[:-1])
    environment.setenv("ERASURE_KEY_FILE", str(file))
    assert refusal().startswith("ERASURE_KEY is set to something else: at least 32 characters are expected")
    file.write_bytes(b"\xff" * 40)
    assert "cannot be read" in refusal()
