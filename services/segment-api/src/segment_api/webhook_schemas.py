"""What the API says of webhooks, and is asked."""

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from segment_api.schemas import Line, Moment, example
from segmentation.event_schemas import CUSTOMER_ID_PATTERN
from segmentation.fields import read_customer_id
from segmentation.tiering import Tier


def _customer_id(text: str) -> str:
    if read_customer_id(text) is None:
        raise ValueError("no customer can have this id")
    return text


Code = Annotated[Line, Field(min_length=1, max_length=64)]
WantedCustomer = Annotated[
    str,
    Field(min_length=1, max_length=64, json_schema_extra={"pattern": CUSTOMER_ID_PATTERN}),
    AfterValidator(_customer_id),
]
_MOST: Final = 100
_GREATEST: Final = 2**63 - 1

_WEBHOOK: Final = {
    "id": "3",
    "url": "https://tms.example.com/tierline",
    "description": "TMS, production",
    "tiers": ["A"],
    "segments": [],
    "service_levels": [],
    "customer_ids": [],
    "position": 4711,
    "enabled": True,
    "disabled_because": None,
    "disabled_at": None,
    "failures": 0,
    "failing_since": None,
    "next_try_at": None,
    "problem": None,
    "created_at": "2026-11-22T08:00:00.000Z",
}


class WebhookQuestion(BaseModel):
    """Where changes are to be posted, and which."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"url": "https://tms.example.com/tierline", "tiers": ["A"]}}
    )

    url: str = Field(
        description="https; it may be in no private network unless the operator allows it.", max_length=2_048
    )
    description: Line | None = Field(None, description="For people.", max_length=200)
    tiers: list[Tier] = Field(default=[], description="Only of these tiers; empty for all.", max_length=4)
    segments: list[Code] = Field(default=[], description="Only of these segments.", max_length=_MOST)
    service_levels: list[Code] = Field(default=[], description="Only of these service levels.", max_length=_MOST)
    customer_ids: list[WantedCustomer] = Field(default=[], description="Only of these customers.", max_length=_MOST)
    after: int | None = Field(
        None,
        ge=0,
        le=_GREATEST,
        strict=True,
        description="The sequence after which to begin; where absent, from now on.",
    )


class ReplayQuestion(BaseModel):
    """From where to send again."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"after": 4000}})

    after: int = Field(
        ge=0, le=_GREATEST, strict=True, description="The sequence after which to begin; 0 for all that is kept."
    )


class WebhookAnswer(BaseModel):
    """A webhook, and how far it is."""

    model_config = example(_WEBHOOK)

    id: str = Field(description="What it is called here.")
    url: str = Field(description="Where changes are posted to.")
    description: str | None = Field(description="For people.")
    tiers: list[str] = Field(description="Only of these tiers; empty for all. So the next three.")
    segments: list[str] = Field(description="Only of these segments.")
    service_levels: list[str] = Field(description="Only of these service levels.")
    customer_ids: list[str] = Field(description="Only of these customers.")
    position: int = Field(description="Every change up to this sequence was taken, or is none that is wanted.")
    enabled: bool = Field(description="False once it was given up: nothing is sent until somebody enables it again.")
    disabled_because: str | None = Field(description="Why it was given up.")
    disabled_at: Moment | None = Field(description="When that was.")
    failures: int = Field(description="Tries in a row that failed.")
    failing_since: Moment | None = Field(description="When the first of these was.")
    next_try_at: Moment | None = Field(description="When the next one will be; null: as soon as there is something.")
    problem: str | None = Field(description="Of the last try, where it failed.")
    created_at: Moment = Field(description="By the database's clock.")


class NewWebhookAnswer(WebhookAnswer):
    """A new webhook, with its secret: it is told this once."""

    model_config = example(_WEBHOOK | {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw..."})

    secret: str = Field(description="What messages are signed with; it is never told again.")


class WebhooksAnswer(BaseModel):
    """All webhooks, oldest first."""

    model_config = example({"webhooks": [_WEBHOOK]})

    webhooks: list[WebhookAnswer]


class RemovedAnswer(BaseModel):
    """A webhook is gone, with its secret and its log."""

    model_config = example({"id": "3", "removed": True})

    id: str = Field(description="What it was called.")
    removed: bool = Field(description="Always true.")


class TestAskedAnswer(BaseModel):
    """A message without changes is about to be sent."""

    model_config = example({"id": "3", "log": "/webhooks/3/deliveries"})

    id: str = Field(description="Of the webhook.")
    log: str = Field(description="Where to see what came of it, within seconds.")


class DeliveryAnswer(BaseModel):
    """One try to deliver one message."""

    id: int = Field(description="Of the try.")
    message_id: str = Field(description="`webhook-id` of the message; the same for each try of it.")
    changes: int = Field(description="Changes in it; 0 for a test.")
    delivered: bool = Field(description="Whether the receiver took it: it answered 200 to 299.")
    status: int | None = Field(description="Of its answer; null where there was none.")
    problem: str | None = Field(description="Why it was not taken.")
    milliseconds: int = Field(description="How long the try took.")
    at: Moment | None = Field(description="When it ended, by the database's clock.")


class DeliveriesAnswer(BaseModel):
    """The log of a webhook, newest first; tries of the last seven days."""

    model_config = example(
        {
            "deliveries": [
                {
                    "id": 17,
                    "message_id": "3.4700-4711",
                    "changes": 12,
                    "delivered": True,
                    "status": 204,
                    "problem": None,
                    "milliseconds": 41,
                    "at": "2026-11-22T08:15:30.120Z",
                }
            ],
            "next": "/webhooks/3/deliveries?limit=1&before=17",
        }
    )

    deliveries: list[DeliveryAnswer]
    next: str | None = Field(description="Path of the next page; null on the last one.")
