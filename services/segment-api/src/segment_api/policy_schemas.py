"""What the API is told and says of the policy: drafts, versions, activations, dry runs."""

from datetime import date

from pydantic import BaseModel, Field

from segment_api.schemas import Line, Moment, Money, example

_ACTIVATION_EXAMPLE = {
    "version": 4,
    "on": "2026-12-01",
    "author": "li.wei",
    "reason": "Winter contracts begin.",
    "requested_at": "2026-11-22T08:15:30.120Z",
    "activated_at": None,
    "cancelled_at": None,
    "replaced_version": None,
}
_POLICY_EXAMPLE = {
    "version": 4,
    "state": "scheduled",
    "origin": "api",
    "author": "li.wei",
    "note": "More for pharma.",
    "created_at": "2026-11-22T08:10:00.000Z",
    "activated_at": None,
    "scheduled_on": "2026-12-01",
}


class PolicyDraft(BaseModel):
    """A draft of the policy."""

    model_config = example({"source": 'name = "Autumn policy" ...', "author": "li.wei", "note": "More for pharma."})

    source: Line = Field(max_length=1_000_000, description="The whole policy, as TOML.")
    author: Line | None = Field(
        None, min_length=1, max_length=200, description="Who wrote it; absent, the name of the key or token."
    )
    note: Line | None = Field(None, max_length=2_000, description="What it is for.")


class ActivationQuestion(BaseModel):
    """How a version is to be put in force."""

    model_config = example({"on": "2026-12-01", "author": "li.wei", "reason": "Winter contracts begin."})

    on: date | None = Field(None, description="From which business day on; at once without it, or where it has come.")
    author: Line | None = Field(
        None, min_length=1, max_length=200, description="Who wants it; absent, the name of the key or token."
    )
    reason: Line | None = Field(None, max_length=2_000, description="Why.")


class ActivationAnswer(BaseModel):
    """That a version was put in force, or is to be."""

    model_config = example(_ACTIVATION_EXAMPLE)

    version: int = Field(description="The version of the policy.")
    on: date | None = Field(description="From which business day it was wanted; null for at once.")
    author: str = Field(description="Who wanted it; POLICY_FILE for what a worker brought.")
    reason: str | None = Field(description="Why.")
    requested_at: Moment = Field(description="When it was asked for.")
    activated_at: Moment | None = Field(description="When it was put in force; null while its day has not come.")
    cancelled_at: Moment | None = Field(description="When it was taken back, if it was.")
    replaced_version: int | None = Field(description="The version that was in force before.")


class PolicyAnswer(BaseModel):
    """A version of the policy."""

    version: int = Field(description="The version's number.")
    state: str = Field(description="draft, scheduled, active or retired.")
    origin: str = Field(description="shipped with the product, from a worker's file, or by the api.")
    author: str | None = Field(description="Who wrote it.")
    note: str | None = Field(description="What it is for.")
    created_at: Moment = Field(description="When it was stored.")
    activated_at: Moment | None = Field(description="When it was last put in force.")
    scheduled_on: date | None = Field(description="The business day from which it will be in force.")


class PolicyDetail(PolicyAnswer):
    """A version of the policy with its text."""

    model_config = example(_POLICY_EXAMPLE | {"source": 'name = "Autumn policy" ...'})

    source: str = Field(description="The whole policy, as TOML.")


class PoliciesAnswer(BaseModel):
    """All versions of the policy, and how they came in force."""

    model_config = example(
        {"active": 3, "policies": [_POLICY_EXAMPLE], "activations": [_ACTIVATION_EXAMPLE], "older_activations": False}
    )

    active: int | None = Field(description="The version in force.")
    policies: list[PolicyAnswer] = Field(description="Newest first.")
    activations: list[ActivationAnswer] = Field(description="The last hundred, newest first.")
    older_activations: bool = Field(description="Whether there are older ones that are not listed.")


class CancelledAnswer(BaseModel):
    """What was taken back."""

    model_config = example({"version": 4, "cancelled": 1})

    version: int = Field(description="The version of the policy.")
    cancelled: int = Field(description="How many activations were still to come.")


class DryRunQuestion(BaseModel):
    """What is to be tried out: a text, or a version that is stored."""

    model_config = example({"version": 4})

    source: Line | None = Field(None, max_length=1_000_000, description="A whole policy, as TOML.")
    version: int | None = Field(None, ge=1, le=2**31 - 1, description="A stored version.")
    limit_seconds: float = Field(20.0, ge=1, le=300, description="After so long it answers with what it has.")
    examples: int = Field(10, ge=0, le=100, description="So many customers are named for each move.")


class MoveAnswer(BaseModel):
    """Customers who would go from one to another."""

    before: str = Field(description="As it stands.")
    after: str = Field(description="As it would be.")
    customers: int = Field(description="How many.")
    net_revenue: Money = Field(description="Theirs, over 365 days.")
    examples: list[str] = Field(description="Ids of some of them.")


class DispatchForecast(BaseModel):
    """What dispatch would have to do."""

    a_orders_a_day_before: float = Field(description="Orders a day of customers in tier A, over the last 30 days.")
    a_orders_a_day_after: float = Field(description="The same, of those who would be in tier A.")


class DryRunAnswer(BaseModel):
    """What a policy would do to everyone; nothing was changed."""

    model_config = example(
        {
            "as_of": "2026-11-22",
            "policy_version": 3,
            "policy_name": "Autumn policy",
            "customers": 84_213,
            "looked_at": 84_213,
            "complete": True,
            "seconds": 8.214,
            "moved_customers": 391,
            "moved_net_revenue": "1840022.10",
            "moves": {
                "service_level": [
                    {
                        "before": "stable",
                        "after": "vip",
                        "customers": 391,
                        "net_revenue": "1840022.10",
                        "examples": ["C-1042"],
                    }
                ],
            },
            "dispatch": {"a_orders_a_day_before": 1204.3, "a_orders_a_day_after": 1204.3},
        }
    )

    as_of: date | None = Field(description="The business day that it was computed for; null before the first event.")
    policy_version: int = Field(description="The version in force, which everyone is held against.")
    policy_name: str = Field(description="The name of the policy that was tried out.")
    customers: int = Field(description="Everyone assessed so far.")
    looked_at: int = Field(description="For how many it was computed: a random sample where that is not everyone.")
    complete: bool = Field(description="Whether that was everyone; if not, all counts are of those looked at.")
    seconds: float = Field(description="How long it took.")
    moved_customers: int = Field(description="Whose tier, segment or service level would change, and be announced.")
    moved_net_revenue: Money = Field(description="Theirs, over 365 days.")
    moves: dict[str, list[MoveAnswer]] = Field(
        description="By tier, segment, service_level, value_level, grade and additions."
    )
    dispatch: DispatchForecast = Field(description="What dispatch would have to do.")
