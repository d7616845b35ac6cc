"""What the API says of who changed what."""

from typing import Any

from pydantic import BaseModel, Field

from segment_api.schemas import Moment, example
from segmentation.access import Action, ActorKind

_ENTRY = {
    "id": 4711,
    "at": "2026-11-22T08:15:30.120Z",
    "by": {"kind": "key", "id": "3f9c0a6b12de", "name": "operations desk"},
    "action": "override.set",
    "customer_id": "C-1042",
    "subject": None,
    "author": "li.wei",
    "reason": "Contract signed on 20 November.",
    "detail": {"tier": "A", "expires_on": "2027-01-01"},
    "request_id": "9b1c5d0e7a2f4c88",
}


class ActorAnswer(BaseModel):
    """Who changed something, as it was proved."""

    kind: ActorKind | str = Field(
        description="`key`, an API key; `token`, a JWT; `command`, an account of the machine that a command ran "
        "under; `anyone`, with AUTH=off. Newer versions may know more."
    )
    id: str = Field(description="Id of the key, subject of the JWT, name of the account; empty for anyone.")
    name: str = Field(description="Name of the key or of the JWT's subject.")


class AuditEntryAnswer(BaseModel):
    """A change that was made by hand."""

    model_config = example(_ENTRY)

    id: int = Field(description="Grows with time.")
    at: Moment = Field(description="When the change was made, by the database's clock.")
    by: ActorAnswer
    action: Action | str = Field(
        description="What was changed; one that a newer version has written beside this one is told as it stands."
    )
    customer_id: str | None = Field(description="Whose, where it is about a customer.")
    subject: str | None = Field(
        description="The version of the policy or the model, the dead letter, the key, the webhook, the partition or "
        "the full snapshot it is about; of an erasure the hash of the id; null where it is about a customer, or "
        "everything."
    )
    author: str | None = Field(description="Whom the request named as the one who decided; it is not checked.")
    reason: str | None = Field(description="Why, if that was said.")
    detail: dict[str, Any] = Field(description="What was asked for, by action.")
    request_id: str | None = Field(description="Of the request, as in the service's log; null for commands.")


class AuditAnswer(BaseModel):
    """A page of the trail."""

    model_config = example({"entries": [_ENTRY], "next": "/audit?limit=1&before=4711"})

    entries: list[AuditEntryAnswer] = Field(description="Newest first.")
    next: str | None = Field(description="Where the next page is; null on the last one.")
