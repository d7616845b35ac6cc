"""The application: routes, problems, limits, documentation without the internet."""

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from segment_api import problems
from segment_api.context import Context
from segment_api.documenting import complete_document, serve_asyncapi
from segment_api.limits import LimitBody
from segment_api.routes import customers, dispatch, dossiers, health, ingest, listing, policies, tiers
from segment_api.telemetry import CountRequests, Metrics

_DESCRIPTION = """
Live customer segmentation for logistics: each customer's current **segment**, **value tier** (ABC) and
**recommended service level**, computed from the stream of order, return and complaint events.

* A TMS asks `GET /customers/{customer_id}/segment`, many at once by `POST /customers/segments`.
* Dispatch asks `POST /dispatch/priorities`, which of up to 10,000 waiting orders goes first.
* Customers by what they are: `GET /customers`, in pages, or everybody as NDJSON or CSV; counts: `GET /segments`,
  `GET /regions`.
* Why it is so: `GET /customers/{customer_id}/explanation`; what became of it: `GET /customers/{customer_id}/history`.
* A person decides over the rules, for a time, by `PUT /customers/{customer_id}/override`.
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
    {"name": "tiers", "description": "The ranking of everyone."},
    {"name": "policies", "description": "What decides: versions, activation, trying out."},
    {"name": "ingestion", "description": "What becomes of messages."},
    {"name": "health", "description": "Is the service alive and ready."},
]


def create_app(context: Context) -> FastAPI:
    """Builds the application around what it answers from."""
    app = FastAPIOffline(
        title="Tierline",
        version="0.1.0",
        summary="Live customer segmentation for logistics",
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        redoc_url=None,  # its page asks the internet for a logo
    )
    app.state.context = context
    app.state.metrics = Metrics()
    problems.install(app)
    for part in (customers, dispatch, dossiers, listing, tiers, policies, ingest, health):
        app.include_router(part.router)
    app.add_middleware(LimitBody)
    app.add_middleware(CountRequests, metrics=app.state.metrics)
    serve_asyncapi(app)
    complete_document(app)
    return app
