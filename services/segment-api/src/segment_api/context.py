"""What every route works with: the reader, the clock, the house."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Header, Request

from segment_api.change_hub import ChangeHub
from segment_api.exporting import Slots
from segment_api.languages import choose_language
from segment_api.lookups import Lookups
from segmentation.access import AuditTrail
from segmentation.dossiers import Dossiers, Overrides
from segmentation.erasure import Privacy
from segmentation.intake import Intake
from segmentation.ledger import House, Quarantine
from segmentation.listing import Directory
from segmentation.money import MINOR_UNITS
from segmentation.versions import Models, Policies
from segmentation.webhooks import WebhookRules, Webhooks


@dataclass(frozen=True, slots=True)
class Context:
    """Made by wiring, kept by the application."""

    reader: Dossiers
    quarantine: Quarantine
    overrides: Overrides
    house: House
    now: Callable[[], datetime]
    policies: Policies
    models: Models
    audit: AuditTrail
    directory: Directory
    privacy: Privacy
    intake: Intake
    changes: ChangeHub
    webhooks: Webhooks
    webhook_rules: WebhookRules
    exports: Slots = field(default_factory=Slots)

    @property
    def decimals(self) -> int:
        """Decimals of the base currency."""
        return MINOR_UNITS[self.house.base_currency]


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


def _language(
    accept_language: Annotated[
        str | None, Header(description="Language of names and reasons: en or zh.", examples=["zh-CN"])
    ] = None,
) -> str:
    return choose_language(accept_language)


def _lookups(request: Request) -> Lookups:
    lookups: Lookups = request.app.state.lookups
    return lookups


InLookups = Annotated[Lookups, Depends(_lookups)]
InContext = Annotated[Context, Depends(_context)]
InLanguage = Annotated[str, Depends(_language)]
