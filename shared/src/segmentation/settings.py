"""Settings that every service has, and how a bad one is told: one line with its name and the remedy.

Settings come from the environment and are read once, at the start of a process.
"""

import os
import re
import zoneinfo
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from segmentation.erasure import LEAST_KEY_LENGTH
from segmentation.errors import SettingInvalid
from segmentation.ledger import House
from segmentation.money import MINOR_UNITS
from segmentation.webhooks import WebhookRules

_POSTGRES_URL = re.compile(r"postgres(ql)?(\+asyncpg)?://[^/\s]+/[^/\s?]+(\?\S*)?")
_HIGHEST_PORT = 65_535


def _time_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("an IANA time zone is expected, such as Asia/Shanghai") from None
    return name


def _currency(code: str) -> str:
    if code not in MINOR_UNITS:
        raise ValueError("an ISO 4217 currency code is expected, such as CNY")
    return code


def _database_url(url: SecretStr) -> SecretStr:
    address = url.get_secret_value()
    if not _POSTGRES_URL.fullmatch(address) or not _has_valid_port(address):
        raise ValueError("an address such as postgresql://user:password@host:5432/tierline is expected")
    return url


def _has_valid_port(address: str) -> bool:
    try:
        return (urlsplit(address).port or 1) <= _HIGHEST_PORT
    except ValueError:
        return False


class _SecretFiles(PydanticBaseSettingsSource):
    """A secret from the file that NAME_FILE names: as container platforms hand secrets over."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        name = f"{field_name.upper()}_FILE"
        file = os.environ.get(name) if _is_secret(field) else None  # noqa: TID251 - settings are read here
        if not file:
            return None, field_name, False
        if os.environ.get(field_name.upper()):  # noqa: TID251 - as above
            raise SettingInvalid(f"{name} is set and {field_name.upper()} as well; keep one of them")
        try:
            return Path(file).read_text(encoding="utf-8").strip(), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            raise SettingInvalid(f"{name} is {file}: it cannot be read ({error})") from None

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


def _is_secret(field: FieldInfo | None) -> bool:
    return field is not None and SecretStr in (field.annotation, *getattr(field.annotation, "__args__", ()))


def _erasure_key(key: SecretStr | None) -> SecretStr | None:
    if key is not None and len(key.get_secret_value()) < LEAST_KEY_LENGTH:
        raise ValueError(f"at least {LEAST_KEY_LENGTH} characters are expected, such as `openssl rand -hex 32` prints")
    return key


class DatabaseSettings(BaseSettings):
    """Where the data is; for commands that find there what it is built with."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    database_url: Annotated[SecretStr, AfterValidator(_database_url)] = Field(
        description="Address of the PostgreSQL database: postgresql://user:password@host:5432/name."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the environment alone counts
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _SecretFiles(settings_cls)

    @classmethod
    def load(cls) -> Self:
        """Reads the environment.

        Raises:
            SettingInvalid: one line that names the first bad setting, its value and what is expected.
        """
        try:
            return cls()
        except ValidationError as error:
            raise SettingInvalid(_sentence(cls, error)) from None


class HouseSettings(DatabaseSettings):
    """Where the data is, and what it is built with."""

    business_timezone: Annotated[str, AfterValidator(_time_zone)] = Field(
        "UTC", description="IANA time zone whose calendar dates are the business days."
    )
    base_currency: Annotated[str, AfterValidator(_currency)] = Field(
        "CNY", description="ISO 4217 code of the currency that all amounts are converted into."
    )
    clock: Literal["system", "event"] = Field(
        "system",
        description="What as_of follows: `system`, today's date; `event`, the greatest business day of any "
        "applied event, for replaying history.",
    )
    erasure_key: Annotated[SecretStr | None, AfterValidator(_erasure_key)] = Field(
        None,
        description="Secret of at least 32 characters that ids of erased customers are hashed with. The same for all "
        "processes and for good; where it is not set, the database keeps one itself.",
    )

    webhook_allow_http: bool = Field(
        default=False, description="Webhooks may have an address that begins with http://."
    )
    webhook_allow_private: bool = Field(
        default=False, description="Webhooks may be called in private networks and on this machine."
    )

    @property
    def webhook_rules(self) -> WebhookRules:
        """Where webhooks may be."""
        return WebhookRules(self.webhook_allow_http, self.webhook_allow_private)

    @property
    def house(self) -> House:
        secret = None if self.erasure_key is None else self.erasure_key.get_secret_value()
        return House(self.clock, self.base_currency, self.business_timezone, secret)


def _sentence(settings: type[BaseSettings], error: ValidationError) -> str:
    first = error.errors()[0]
    expected = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        # Two settings that do not go together: the sentence names them itself.
        return expected
    name = str(first["loc"][0]).lower()
    expected = expected[:1].lower() + expected[1:]
    if first["type"] == "missing":
        return f"{name.upper()} is not set; {_first_sentence(settings, name)}"
    return f"{name.upper()} is {_shown(settings, name, first['input'])}: {expected}"


def _shown(settings: type[BaseSettings], name: str, value: Any) -> str:  # noqa: ANN401 - whatever was given
    return "set to something else" if _is_secret(settings.model_fields.get(name)) else repr(value)


def _first_sentence(settings: type[BaseSettings], name: str) -> str:
    return settings.model_fields[name].description or "it is required"


def help_text(settings: type[BaseSettings]) -> str:
    """Every setting with its meaning and default, for `--help`."""
    lines: list[str] = []
    for name, field in settings.model_fields.items():
        default = "required" if field.is_required() else f"default {field.default}" if field.default else "no default"
        file = f"; or in a file that {name.upper()}_FILE names" if _is_secret(field) else ""
        lines.append(f"  {name.upper()}\n      {field.description} ({default}{file})")
    return "\n".join(lines)
