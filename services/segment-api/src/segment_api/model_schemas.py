"""What the API answers about models, and about what they say of a customer."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from segment_api.schemas import Moment, Money, NamedPart


class DriverPart(NamedPart):
    """One reason of a churn probability."""

    effect: float = Field(
        description="In log-odds, compared with a customer typical in this; positive raises the risk. Effects do not "
        "add up."
    )
    words: str = Field(description="The same as a sentence without its full stop, with the customer's own figures.")


class RiskExplanation(BaseModel):
    """The churn probability with its reasons, and the churn warning."""

    warning: bool = Field(description="Whether there is a churn warning.")
    decided_by: str = Field(description="What it rests on: `model`, or `lifecycle` where no model knows the customer.")
    warn_from: float = Field(description="The churn probability from which on the policy warns.")
    churn_probability: float | None = Field(description="In whole percents; null where no model knows the customer.")
    horizon_days: int | None = Field(description="Of no order in so many days; null without a probability.")
    expected_value: Money | None = Field(description="Net revenue that the model expects in these days.")
    drivers: list[DriverPart] = Field(description="The main reasons of the probability, the strongest first.")
    words: list[str] = Field(description="The same in sentences.")


class BehaviourExplanation(NamedPart):
    """The segment that the model puts the customer in: the one that is shown."""

    source: str = Field(description="The model, such as `model:7`.")
    confidence: float = Field(description="In whole percents: 0 on the border of two segments, 1 in the middle of one.")
    words: list[str] = Field(description="The same in sentences.")


RISK_EXAMPLE: dict[str, Any] = {
    "warning": False,
    "decided_by": "model",
    "warn_from": 0.7,
    "churn_probability": 0.08,
    "horizon_days": 90,
    "expected_value": "412.50",
    "drivers": [
        {
            "code": "silence",
            "name": "Silence",
            "effect": -0.82,
            "words": "The last order was 2 days ago, and the mean gap between orders is 9 days; "
            "compared with a typical customer, this lowers the churn risk",
        }
    ],
    "words": ["By model 7, the probability of no order in the next 90 days is 8 %."],
}
BEHAVIOUR_EXAMPLE: dict[str, Any] = {
    "code": "active_frequent",
    "name": "Active, frequent",
    "source": "model:7",
    "confidence": 0.93,
    "words": ["Model 7 puts the customer in Active, frequent, with a confidence of 93 %."],
}


class ModelRefusal(BaseModel):
    """Why the model should not have been published, and was all the same."""

    rule: str = Field(description="What it failed, as a code.")
    detail: str = Field(description="The figures, in words.")


class ModelAnswer(BaseModel):
    """A published model."""

    version: int = Field(description="Its number; answers call it `model:7`.")
    in_force: bool = Field(description="Whether customers are scored by it now.")
    author: str = Field(description="Who published it.")
    note: str | None = Field(description="What it is for.")
    created_at: Moment = Field(description="When it was published.")
    overruled: list[ModelRefusal] = Field(description="What spoke against it and was overruled; mostly empty.")
    overruled_because: str | None = Field(description="Why.")


_MODEL_EXAMPLE: dict[str, Any] = {
    "version": 7,
    "in_force": True,
    "author": "li.wei",
    "note": "Autumn",
    "created_at": "2026-11-20T06:00:00.000Z",
    "overruled": [],
    "overruled_because": None,
}


class ModelDetail(ModelAnswer):
    """A published model with its card."""

    model_config = ConfigDict(json_schema_extra={"example": _MODEL_EXAMPLE | {"card": {"horizon_days": 90}}})

    card: dict[str, Any] = Field(
        description="The model card: the data it was made from, cuts, figures with intervals, features and segments."
    )


class ModelActivationAnswer(BaseModel):
    """That a model was put in force, or taken out of it."""

    version: int | None = Field(description="From then on in force; null: none, the rules decide.")
    kind: str = Field(description="`activate` or `rollback`.")
    author: str = Field(description="Who did it.")
    reason: str = Field(description="Why.")
    activated_at: Moment = Field(description="When it was done.")
    replaced_version: int | None = Field(description="What was in force until then; null for none.")


class ModelsAnswer(BaseModel):
    """All published models."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "active": 7,
                "models": [_MODEL_EXAMPLE],
                "activations": [
                    {
                        "version": 7,
                        "kind": "activate",
                        "author": "li.wei",
                        "reason": "Better on all cuts",
                        "activated_at": "2026-11-20T07:30:00.000Z",
                        "replaced_version": 6,
                    }
                ],
            }
        }
    )

    active: int | None = Field(description="The version in force; null for none.")
    models: list[ModelAnswer] = Field(description="Newest first, without their cards.")
    activations: list[ModelActivationAnswer] = Field(description="The last hundred, newest first.")
