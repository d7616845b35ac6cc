"""The policy: its versions, putting them in force, and trying one out."""

import re
from typing import Annotated

from fastapi import APIRouter, Path

from segment_api import policy_answers, policy_schemas, problems
from segment_api.context import InContext
from segment_api.guarding import InActor, author_or
from segment_api.problems import ProblemAnswer
from segmentation.errors import DryRunBusy, PolicyFrozen, PolicyInvalid

router = APIRouter(tags=["policies"])

_HIGHEST = 2**31 - 1
_SHOWN = 100
_NOBODY_SAID = "unknown"
Version = Annotated[str, Path(description="Number of the version.", examples=["4"])]


@router.get(
    "/policies",
    summary="All versions of the policy",
    description="Which is in force, which are drafts or scheduled, and the last hundred activations.",
    responses=problems.responses(503),
)
async def read_policies(context: InContext) -> policy_schemas.PoliciesAnswer:
    versions = await context.policies.versions()
    activations = await context.policies.activations(limit=_SHOWN + 1)
    return policy_answers.present_policies(versions, activations[:_SHOWN], older=len(activations) > _SHOWN)


@router.post(
    "/policies/dry-run",
    summary="What a policy would do to everyone, without doing it",
    description="By the code that decides: who would move from what to what, how much revenue that is, and how many "
    "orders of A customers a day dispatch would then have. Give `source` or `version`. One at a time in each process; "
    "where the time does not suffice for everyone, it answers for a random sample and says so.",
    responses=problems.responses(404, 413, 422, 429, 503),
)
async def try_policy(question: policy_schemas.DryRunQuestion, context: InContext) -> policy_schemas.DryRunAnswer:
    policy = question.version if question.version is not None else question.source
    if policy is None or (question.version is not None and question.source is not None):
        raise ProblemAnswer(422, "body: either source, the text of a policy, or version, a stored one, is expected")
    try:
        run = await context.policies.dry_run(
            policy, now=context.now(), limit_seconds=question.limit_seconds, examples=question.examples
        )
    except PolicyInvalid as error:
        raise _invalid(error) from None
    except DryRunBusy as error:
        raise ProblemAnswer(429, _sentence(error), headers={"Retry-After": "10"}) from None
    if run is None:
        raise _unknown(question.version)
    return policy_answers.present_dry_run(run, context.decimals)


@router.get(
    "/policies/{version}",
    summary="A version of the policy, with its text",
    description="Its state says whether it is a draft, scheduled, in force or was in force.",
    responses=problems.responses(404, 503),
)
async def read_policy(version: Version, context: InContext) -> policy_schemas.PolicyDetail:
    found = await context.policies.find(_number(version))
    if found is None:
        raise _unknown(version)
    return policy_answers.present_policy_detail(found)


@router.put(
    "/policies/{version}",
    summary="Store a draft of the policy",
    description="Under the next number, or over a draft. It is read as a worker would read it: what is not understood "
    "is refused with its row and field. A version that was in force or is scheduled never changes.",
    responses=problems.responses(404, 409, 413, 422, 503),
)
async def put_policy(
    version: Version, draft: policy_schemas.PolicyDraft, context: InContext, actor: InActor
) -> policy_schemas.PolicyDetail:
    author = author_or(actor, draft.author)
    try:
        stored = await context.policies.draft(_number(version), draft.source, author=author, note=draft.note, by=actor)
    except PolicyInvalid as error:
        raise _invalid(error) from None
    except PolicyFrozen as error:
        raise ProblemAnswer(409, _sentence(error)) from None
    return policy_answers.present_policy_detail(stored)


@router.post(
    "/policies/{version}/activate",
    summary="Put a version of the policy in force",
    description="Now, or with `on` from a business day on. An older version may be put in force again: that is how to "
    "go back. Everyone is assessed anew in small batches, and whoever moves is announced.",
    responses=problems.responses(404, 413, 422, 503),
)
async def activate_policy(
    version: Version,
    context: InContext,
    actor: InActor,
    question: policy_schemas.ActivationQuestion | None = None,
) -> policy_schemas.ActivationAnswer:
    asked = question or policy_schemas.ActivationQuestion()
    try:
        activation = await context.policies.activate(
            _number(version),
            on=asked.on,
            author=author_or(actor, asked.author) or _NOBODY_SAID,
            reason=asked.reason,
            now=context.now(),
            by=actor,
        )
    except PolicyInvalid as error:
        raise _invalid(error) from None
    if activation is None:
        raise _unknown(version)
    return policy_answers.present_activation(activation)


@router.delete(
    "/policies/{version}/activate",
    summary="Take back an activation that is still to come",
    description="What is in force stays in force; nothing to take back is no error.",
    responses=problems.responses(404, 503),
)
async def cancel_activation(version: Version, context: InContext, actor: InActor) -> policy_schemas.CancelledAnswer:
    number = _number(version)
    if await context.policies.find(number) is None:
        raise _unknown(version)
    return policy_schemas.CancelledAnswer(version=number, cancelled=await context.policies.cancel(number, by=actor))


def _number(version: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,9}", version, re.ASCII) or int(version) > _HIGHEST:
        raise _unknown(version)
    return int(version)


def _unknown(version: object) -> ProblemAnswer:
    return ProblemAnswer(404, f"There is no version {str(version)[:_SHOWN]} of the policy; GET /policies lists them.")


def _invalid(error: PolicyInvalid) -> ProblemAnswer:
    return ProblemAnswer(422, f"source: {error}")


def _sentence(error: Exception) -> str:
    said = str(error)
    return f"{said[:1].upper()}{said[1:]}."
