"""A bad setting of the API is one line that names it; a good one is taken as it is."""

from pathlib import Path

import pytest

from segment_api.__main__ import main
from segment_api.settings import ApiSettings
from segmentation.errors import SettingInvalid
from segmentation.settings import help_text

PASSWORD = "hunter2-Zoë"
DATABASE_URL = f"postgresql://tierline:{PASSWORD}@127.0.0.1:5432/tierline"


@pytest.fixture(autouse=True)
def nothing_but_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ApiSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DATABASE_URL", DATABASE_URL)


def refusal() -> str:
    """What is said of the settings as they stand."""
    with pytest.raises(SettingInvalid) as refused:
        ApiSettings.load()
    return str(refused.value)


def test_the_database_alone_is_enough() -> None:
    settings = ApiSettings.load()
    assert settings.database_url.get_secret_value() == DATABASE_URL
    assert (settings.http_host, settings.http_port, settings.auth) == ("127.0.0.1", 8080, "off")
    assert (settings.house.clock, settings.house.base_currency, settings.house.time_zone) == ("system", "CNY", "UTC")


BAD = [
    ("DATABASE_URL", "127.0.0.1:5432", "postgresql://"),
    ("DATABASE_URL", f"mysql://tierline:{PASSWORD}@127.0.0.1/tierline", "postgresql://"),
    ("DATABASE_URL", "postgresql://127.0.0.1", "postgresql://"),
    ("BUSINESS_TIMEZONE", "Mars/Olympus", "Asia/Shanghai"),
    ("BUSINESS_TIMEZONE", "America", "Asia/Shanghai"),
    ("BUSINESS_TIMEZONE", "../../etc/passwd", "Asia/Shanghai"),
    ("BUSINESS_TIMEZONE", "/etc/localtime", "Asia/Shanghai"),
    ("BUSINESS_TIMEZONE", "+08:00", "Asia/Shanghai"),
    ("BASE_CURRENCY", "RMB", "CNY"),
    ("BASE_CURRENCY", "cny", "CNY"),
    ("BASE_CURRENCY", "XAU", "CNY"),
    ("CLOCK", "events", "'system' or 'event'"),
    ("CLOCK", "System", "'system' or 'event'"),
    ("HTTP_HOST", "example.com", "127.0.0.1"),
    ("HTTP_HOST", "127.0.0.1:8080", "127.0.0.1"),
    ("HTTP_HOST", "*", "127.0.0.1"),
    ("HTTP_HOST", "0.0.0.0", "HTTP_HOST=127.0.0.1"),
    ("HTTP_HOST", "::", "HTTP_HOST=127.0.0.1"),
    ("HTTP_HOST", "192.168.1.10", "HTTP_HOST=127.0.0.1"),
    ("HTTP_HOST", "8.8.8.8", "HTTP_HOST=127.0.0.1"),
    ("HTTP_PORT", "http", "integer"),
    ("HTTP_PORT", "80.5", "integer"),
    ("HTTP_PORT", "0", "1"),
    ("HTTP_PORT", "65536", "65535"),
    ("AUTH", "on", "off"),
    ("AUTH", "OFF", "off"),
    ("AUTH", "off,keys", "keys,jwt"),
    ("AUTH", "keys,keys", "keys,jwt"),
    ("AUTH", "none", "keys,jwt"),
    ("JWT_ALGORITHMS", "HS256", "shared secret"),
    ("JWT_ALGORITHMS", "none", "RS256"),
    ("JWT_KEYS_FILE", "/nowhere.pem", "file"),
    ("HTTP_TLS_CERT_FILE", "/nowhere.pem", "file"),
    ("HTTP_TRUSTED_PROXIES", "proxy.example", "networks"),
    ("RATE_LIMIT", "-1", "0"),
    ("RATE_LIMIT", "inf", "finite"),
    ("CONCURRENCY_LIMIT", "0", "1"),
    ("AUTH_FAILURES_PER_MINUTE", "often", "integer"),
    ("DOCS_OPEN", "maybe", "boolean"),
    ("DATABASE_CONNECTIONS", "0", "1"),
    ("DATABASE_CONNECTIONS", "many", "integer"),
]


@pytest.mark.parametrize(("name", "value", "expected"), BAD)
def test_a_bad_setting_is_one_line_that_names_it_and_what_is_expected(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(name, value)
    said = refusal()
    assert said.startswith(f"{name} is ")
    assert expected in said
    assert "\n" not in said
    assert PASSWORD not in said
    if name != "DATABASE_URL":
        assert value in said


@pytest.mark.parametrize(("name", "value", "expected"), BAD)
def test_a_bad_setting_stops_the_command(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    """With one line on standard error and exit code 1, which is what a text given to `sys.exit` does."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        main(["run"])
    assert isinstance(stopped.value.code, str)
    assert stopped.value.code.startswith(f"segment-api: {name} is ")


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_database_is_said_with_what_to_set(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """An empty setting is one that is not set."""
    monkeypatch.delenv("DATABASE_URL")
    if value is not None:
        monkeypatch.setenv("DATABASE_URL", value)
    assert refusal() == (
        "DATABASE_URL is not set; Address of the PostgreSQL database: postgresql://user:password@host:5432/name."
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "0:0:0:0:0:0:0:1", "localhost"])
def test_without_authentication_only_loopback_is_served(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("HTTP_HOST", host)
    assert ApiSettings.load().http_host in ("127.0.0.1", "127.8.9.10", "::1", "localhost")


def test_a_refused_host_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_HOST", "0.0.0.0")
    assert refusal() == (
        "HTTP_HOST is 0.0.0.0, but AUTH=off serves loopback only: set AUTH=keys (see segment-api keys --help) or "
        "AUTH=jwt, or HTTP_HOST=127.0.0.1"
    )


@pytest.mark.parametrize("auth", ["keys", "jwt", "keys,jwt", "jwt,keys"])
def test_with_authentication_any_address_is_served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, auth: str) -> None:
    monkeypatch.setenv("HTTP_HOST", "0.0.0.0")
    monkeypatch.setenv("AUTH", auth)
    if "jwt" in auth:
        keys = tmp_path / "keys.pem"
        keys.touch()
        monkeypatch.setenv("JWT_KEYS_FILE", str(keys))
        monkeypatch.setenv("JWT_ISSUER", "https://issuer.example")
        monkeypatch.setenv("JWT_AUDIENCE", "tierline")
    settings = ApiSettings.load()
    assert settings.http_host == "0.0.0.0"
    assert settings.ways == [way for way in ("keys", "jwt") if way in auth]


@pytest.mark.parametrize("missing", ["JWT_ISSUER", "JWT_AUDIENCE", "JWT_KEYS_FILE"])
def test_tokens_need_an_issuer_an_audience_and_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    (tmp_path / "keys.pem").touch()
    given = {"JWT_ISSUER": "issuer", "JWT_AUDIENCE": "tierline", "JWT_KEYS_FILE": str(tmp_path / "keys.pem")}
    monkeypatch.setenv("AUTH", "keys,jwt")
    for name, value in given.items():
        if name != missing:
            monkeypatch.setenv(name, value)
    assert refusal() == f"{missing} is not set; AUTH=keys,jwt needs it"


def test_an_issuer_without_tokens_is_a_mistake_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets it believes that tokens count."""
    monkeypatch.setenv("AUTH", "keys")
    monkeypatch.setenv("JWT_ISSUER", "issuer")
    assert refusal() == "JWT_ISSUER is set, but AUTH=keys takes no tokens; add jwt to AUTH"


def test_a_certificate_needs_its_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "certificate.pem").touch()
    monkeypatch.setenv("HTTP_TLS_CERT_FILE", str(tmp_path / "certificate.pem"))
    assert refusal() == "HTTP_TLS_KEY_FILE is not set; TLS needs both the certificate and its key"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_every_usual_spelling_of_an_address_is_taken(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    url = f"{scheme}://tierline@db.example/tierline?sslmode=require"
    monkeypatch.setenv("DATABASE_URL", url)
    assert ApiSettings.load().database_url.get_secret_value() == url


def test_secrets_are_never_shown() -> None:
    settings = ApiSettings.load()
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
        assert PASSWORD not in shown
    assert PASSWORD not in help_text(ApiSettings)


def test_settings_of_others_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_GROUP_ID", "x" * 1_000)
    assert ApiSettings.load().http_port == 8080
