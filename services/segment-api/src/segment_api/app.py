"""The application: routes, problems, limits, documentation without the internet."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import Depends, FastAPI
from fastapi.routing import iter_route_contexts
from fastapi_offline import FastAPIOffline

from segment_api import problems, scopes
from segment_api.authenticating import Authenticator, Limits
from segment_api.context import Context
from segment_api.documenting import complete_document, serve_asyncapi, serve_docs
from segment_api.guarding import Guard, require_scope
from segment_api.hot_lane import HotLane
from segment_api.limits import LimitBody, LimitHead
from segment_api.lookups import KEPT_BYTES, Lookups
from segment_api.observing import Observe
from segment_api.routes import (
    audit,
    changes,
    customers,
    dispatch,
    dossiers,
    events,
    health,
    ingest,
    listing,
    models,
    policies,
    privacy,
    tiers,
    webhooks,
)
from segment_api.telemetry import AccessLog, CountRequests, Metrics

_DESCRIPTION = """
Live customer segmentation for logistics: each customer's current **segment**, **value tier** (ABC) and
**recommended service level**, computed from the stream of order, return and complaint events.

* A TMS asks `GET /customers/{customer_id}/segment`, many at once by `POST /customers/segments`.
* Dispatch asks `POST /dispatch/priorities`, which of up to 10,000 waiting orders goes first.
* Customers by what they are: `GET /customers`, in pages, or everybody as NDJSON or CSV; counts: `GET /segments`,
  `GET /regions`.
* Why it is so: `GET /customers/{customer_id}/explanation`; what became of it: `GET /customers/{customer_id}/history`.
* A person decides over the rules, for a time, by `PUT /customers/{customer_id}/override`.
* All that is kept about a customer: `GET /customers/{customer_id}/data`; `DELETE /customers/{customer_id}` erases it.
* Events come over Kafka, or by `POST /events`; changes go out to a topic, and to whoever follows `GET /changes`.
* Operations look at `GET /ingest/status`, `GET /tiers`, `GET /dead-letters` and `GET /events/{event_id}`.
* Tiers are relative: one customer's order can move another customer's tier. `stale` says when an answer
  rests on cut-offs that are behind.
* Amounts are decimal strings in the base currency; days are business days in the configured time zone.
* Errors are `application/problem+json` (RFC 9457).
* What travels on Kafka, in both directions, is in the [AsyncAPI document](asyncapi.json).

客户分群实时服务: 提供每个客户当前的分群、价值等级 (ABC) 和推荐服务级别。
名称语言由 `Accept-Language` (en, zh) 决定; 代码不变。
"""

_TAGS = [
    {"name": "customers", "description": "Where customers stand."},
    {"name": "dispatch", "description": "Which order goes first."},
    {"name": "overrides", "description": "What people decide over the rules."},
    {"name": "segments", "description": "Everyone by segment."},
    {"name": "regions", "description": "Everyone by region."},
    {"name": "privacy", "description": "What customers can ask of their data."},
    {"name": "tiers", "description": "The ranking of everyone."},
    {"name": "policies", "description": "What decides: versions, activation, trying out."},
    {"name": "models", "description": "What foretells: versions and their cards."},
    {"name": "ingestion", "description": "What becomes of messages."},
    {"name": "access", "description": "Who changed what."},
    {"name": "streams", "description": "Changes, as they happen."},
    {"name": "health", "description": "Is the service alive and ready."},
]


@dataclass(frozen=True, slots=True)
class Door:
    """Who is let in, and how it is told."""

    authenticator: Authenticator
    docs_open: bool = False
    most_at_once: int = 100
    """Requests of one key under way at the same time."""
    log: Callable[..., None] | None = None
    """Takes a line of the access log; None: there is none."""


def open_door(context: Context) -> Door:
    """Everyone is let in, as with AUTH=off."""
    nobody = Authenticator(keys=None, tokens=None, now=context.now, monotonic=time.monotonic, limits=Limits())
    return Door(nobody, docs_open=True)


def create_app(
    context: Context,
    door: Door | None = None,
    *,
    kept_bytes: int = KEPT_BYTES,
    figures_directory: Path | None = None,
) -> FastAPI:
    """Builds the application around what it answers from; without a door, everyone is let in.

    Raises:
        UndeclaredRoutes: a route is not in the table of `scopes`.
    """
    door = door or open_door(context)
    app = FastAPIOffline(
        title="Tierline",
        version="0.1.0",
        summary="Live customer segmentation for logistics",
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,  # ours has a policy of what a page may load
        redoc_url=None,  # its page asks the internet for a logo
        redirect_slashes=False,  # an id that ends in a slash is malformed, not another customer's
        dependencies=[Depends(require_scope)],
    )
    app.state.context = context
    app.state.turns = events.Turns()
    app.state.metrics = metrics = Metrics(figures_directory)
    app.state.lookups = Lookups(
        context.reader,
        context.house,
        now=context.now,
        monotonic=time.monotonic,
        most_bytes=kept_bytes,
        figures=metrics.lookups,
    )
    problems.install(app)
    parts = (
        *(customers, dispatch, dossiers, listing, privacy, tiers, policies, models),
        *(ingest, events, changes, webhooks, audit, health),
    )
    for part in parts:
        app.include_router(part.router)
    # The last one added is the first that a request meets.
    app.add_middleware(LimitBody)
    app.add_middleware(
        Guard, authenticator=door.authenticator, docs_open=door.docs_open, most_at_once=door.most_at_once
    )
    app.add_middleware(LimitHead)
    app.add_middleware(CountRequests, metrics=metrics)
    app.add_middleware(Observe, log=door.log)
    serve_docs(app)
    serve_asyncapi(app)
    complete_document(app)
    _require_declared(app)
    return app


def with_hot_lane(app: FastAPI, door: Door, log: AccessLog | None = None) -> HotLane:
    """The application as it is served: what is kept in memory is answered ahead of it, once changes are followed."""
    return HotLane(app, lookups=app.state.lookups, metrics=app.state.metrics, authenticator=door.authenticator, log=log)


class UndeclaredRoutes(Exception):
    """Somebody added routes and did not say who may use them."""


def operations(app: FastAPI) -> list[str]:
    """Every operation that the application answers, as the table of `scopes` names it."""
    found: list[str] = []
    for each in iter_route_contexts(app.routes):
        path = getattr(each, "path_format", None) or getattr(each, "path", "")
        # A mount answers whatever is below it.
        methods = getattr(each, "methods", None) or {"GET"}
        found += [f"{method} {path}" for method in sorted(methods - {"HEAD"})]
    return found


def _require_declared(app: FastAPI) -> None:
    missing = scopes.missing(operations(app))
    if missing:
        raise UndeclaredRoutes(f"no scope is declared for {', '.join(missing)}: add a line for each to scopes.NEEDED")
