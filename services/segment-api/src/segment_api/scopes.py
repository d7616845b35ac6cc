"""Which scope each operation needs: all of them in this one table, one line each.

Laws: what is not in the table nobody may do, and the application does not start with a route that is missing here;
what is open is named as such. A scope that includes another opens what the other opens
(`segmentation.access.with_included`).
"""

import enum
from collections.abc import Iterable, Mapping
from typing import Final

from segmentation.access import Scope


class Open(enum.Enum):
    """Of operations that need no scope."""

    TO_ALL = "health: to everyone, without a key"
    AS_SET = "the documents: to everyone where DOCS_OPEN says so, else to any valid key or token"


NEEDED: Final[Mapping[str, Scope | Open]] = {
    "GET /customers/{customer_id}/segment": Scope.READ,
    "GET /customers/{customer_id}/metrics": Scope.READ,
    "GET /customers/{customer_id}/explanation": Scope.READ,
    "GET /customers/{customer_id}/history": Scope.READ,
    "PUT /customers/{customer_id}/override": Scope.OPERATE,
    "DELETE /customers/{customer_id}/override": Scope.OPERATE,
    "PUT /customers/overrides": Scope.OPERATE,
    "POST /customers/segments": Scope.READ,
    "GET /customers/{customer_id}/data": Scope.ADMIN,
    "DELETE /customers/{customer_id}": Scope.ADMIN,
    "GET /customers": Scope.READ,
    "GET /segments": Scope.READ,
    "GET /regions": Scope.READ,
    "GET /tiers": Scope.READ,
    "POST /dispatch/priorities": Scope.DISPATCH,
    "GET /policies": Scope.READ,
    "GET /policies/{version}": Scope.READ,
    "PUT /policies/{version}": Scope.ADMIN,
    "POST /policies/{version}/activate": Scope.ADMIN,
    "DELETE /policies/{version}/activate": Scope.ADMIN,
    "POST /policies/dry-run": Scope.OPERATE,
    "GET /models": Scope.READ,
    "GET /models/{version}": Scope.READ,
    "GET /changes": Scope.READ,
    "GET /webhooks": Scope.OPERATE,
    "POST /webhooks": Scope.OPERATE,
    "GET /webhooks/{webhook_id}": Scope.OPERATE,
    "DELETE /webhooks/{webhook_id}": Scope.OPERATE,
    "POST /webhooks/{webhook_id}/test": Scope.OPERATE,
    "POST /webhooks/{webhook_id}/enable": Scope.OPERATE,
    "POST /webhooks/{webhook_id}/replay": Scope.OPERATE,
    "GET /webhooks/{webhook_id}/deliveries": Scope.OPERATE,
    "POST /events": Scope.INGEST,
    "GET /ingest/status": Scope.OPERATE,
    "GET /ingest/totals": Scope.OPERATE,
    "GET /ingest/full-snapshots": Scope.OPERATE,
    "GET /events/{event_id}": Scope.READ,
    "GET /dead-letters": Scope.OPERATE,
    "GET /dead-letters/{letter_id}": Scope.OPERATE,
    "POST /dead-letters/{letter_id}/replay": Scope.OPERATE,
    "GET /audit": Scope.ADMIN,
    "GET /metrics": Scope.OPERATE,
    "GET /health/live": Open.TO_ALL,
    "GET /health/ready": Open.TO_ALL,
    "GET /docs": Open.AS_SET,
    "GET /openapi.json": Open.AS_SET,
    "GET /asyncapi.json": Open.AS_SET,
    "GET /static-offline-docs/{path}": Open.AS_SET,
}


def missing(operations: Iterable[str]) -> list[str]:
    """Those of some operations that the table does not name."""
    return sorted(set(operations) - NEEDED.keys())


def open_paths(*, docs_open: bool) -> frozenset[str]:
    """Paths that are answered without a key."""
    wanted = {Open.TO_ALL, Open.AS_SET} if docs_open else {Open.TO_ALL}
    return frozenset(name.partition(" ")[2] for name, needs in NEEDED.items() if needs in wanted)
