"""The versions of the policy, when which is in force, and what one would do -> what the API answers."""

from collections.abc import Sequence
from typing import Any

from segment_api import policy_schemas
from segmentation.dry_run import DryRun
from segmentation.money import format_minor
from segmentation.versions import Activation, PolicyState, PolicyVersion


def present_policies(
    versions: Sequence[PolicyVersion], activations: Sequence[Activation], *, older: bool = False
) -> policy_schemas.PoliciesAnswer:
    """All versions of the policy."""
    active = [each.version for each in versions if each.state is PolicyState.ACTIVE]
    return policy_schemas.PoliciesAnswer(
        active=active[0] if active else None,
        policies=[present_policy(each) for each in versions],
        activations=[present_activation(each) for each in activations],
        older_activations=older,
    )


def present_policy(version: PolicyVersion) -> policy_schemas.PolicyAnswer:
    """A version of the policy, without its text."""
    return policy_schemas.PolicyAnswer(**_version_fields(version))


def present_policy_detail(version: PolicyVersion) -> policy_schemas.PolicyDetail:
    """A version of the policy with its text."""
    return policy_schemas.PolicyDetail(**_version_fields(version), source=version.source)


def _version_fields(version: PolicyVersion) -> dict[str, Any]:
    return {
        "version": version.version,
        "state": version.state,
        "origin": version.origin,
        "author": version.author,
        "note": version.note,
        "created_at": version.created_at,
        "activated_at": version.activated_at,
        "scheduled_on": version.scheduled_on,
    }


def present_activation(activation: Activation) -> policy_schemas.ActivationAnswer:
    """That a version was put in force, or is to be."""
    return policy_schemas.ActivationAnswer(
        version=activation.version,
        on=activation.on,
        author=activation.author,
        reason=activation.reason,
        requested_at=activation.requested_at,
        activated_at=activation.activated_at,
        cancelled_at=activation.cancelled_at,
        replaced_version=activation.replaced_version,
    )


def present_dry_run(run: DryRun, decimals: int) -> policy_schemas.DryRunAnswer:
    """What a policy would do."""
    before, after = run.a_orders_a_day
    return policy_schemas.DryRunAnswer(
        as_of=run.as_of,
        policy_version=run.policy_version,
        policy_name=run.policy_name,
        customers=run.customers,
        looked_at=run.looked_at,
        complete=run.complete,
        seconds=round(run.seconds, 3),
        moved_customers=run.moved_customers,
        moved_net_revenue=format_minor(run.moved_net_revenue, decimals),
        moves={
            aspect: [
                policy_schemas.MoveAnswer(
                    before=move.before,
                    after=move.after,
                    customers=move.customers,
                    net_revenue=format_minor(move.net_revenue, decimals),
                    examples=list(move.examples),
                )
                for move in moves
            ]
            for aspect, moves in run.moves.items()
        },
        dispatch=policy_schemas.DispatchForecast(a_orders_a_day_before=before, a_orders_a_day_after=after),
    )
