"""The documents: OpenAPI completed (problems in the shape they have, examples as written), AsyncAPI beside it."""

import base64
import copy
import hashlib
import re
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel

from segment_api import (
    asyncapi,
    audit_schemas,
    dispatch_schemas,
    dossier_schemas,
    ingest_schemas,
    listing_schemas,
    model_schemas,
    policy_schemas,
    posting_schemas,
    privacy_schemas,
    problems,
    schemas,
    webhook_schemas,
)
from segment_api.scopes import NEEDED
from segmentation.access import Scope

_NOT_OURS = "HTTPValidationError"
_TOPICS = (
    schemas,
    audit_schemas,
    ingest_schemas,
    posting_schemas,
    policy_schemas,
    model_schemas,
    dossier_schemas,
    listing_schemas,
    dispatch_schemas,
    privacy_schemas,
    webhook_schemas,
)
_ASSETS = "/static-offline-docs"
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_SCHEMES: Final = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, as `segment-api keys create` shows it once. With `AUTH=off` none is needed.",
    },
    "jwt": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A JWT of the configured issuer, with the scopes in its claim. With `AUTH=off` none is needed.",
    },
}


def complete_document(app: FastAPI) -> None:
    """Makes the application's document say what the application does."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        parts: dict[str, Any] = document["components"]["schemas"]
        parts["Problem"] = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        parts |= parts["Problem"].pop("$defs", {})
        # FastAPI documents an error shape of its own wherever there is a parameter, and leaves nulls out of examples.
        for unused in (_NOT_OURS, "ValidationError"):
            parts.pop(unused, None)
        for path in document["paths"].values():
            for operation in path.values():
                if _NOT_OURS in str(operation["responses"].get("422", "")):
                    del operation["responses"]["422"]
        _declare_access(document)
        for model in {name: value for topic in _TOPICS for name, value in vars(topic).items()}.values():
            if isinstance(model, type) and issubclass(model, BaseModel) and model.__name__ in parts:
                example = (model.model_config.get("json_schema_extra") or {}).get("example")  # type: ignore[union-attr]
                if example is not None:
                    parts[model.__name__]["example"] = copy.deepcopy(example)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _declare_access(document: dict[str, Any]) -> None:
    """Says of each operation what it needs, and what it answers to those who have it not or ask too lengthily."""
    document["components"]["securitySchemes"] = copy.deepcopy(_SCHEMES)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _add_problems(operation, 414, 431)
            needs = NEEDED.get(f"{method.upper()} {path}")
            if not isinstance(needs, Scope):
                operation["security"] = []
                continue
            operation["security"] = [{scheme: [needs.value]} for scheme in _SCHEMES]
            _add_problems(operation, 401, 403, 429)


def _add_problems(operation: dict[str, Any], *statuses: int) -> None:
    common = {str(status): said for status, said in problems.responses(*statuses).items()}
    operation["responses"] = dict(sorted((common | operation["responses"]).items()))


def serve_docs(app: FastAPI) -> None:
    """Serves the documentation page, which may load nothing but what we bring."""

    async def read_docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=f"{app.title} - Swagger UI",
            swagger_js_url=f"{root}{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{_ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{root}{_ASSETS}/favicon.png",
        )
        scripts = _INLINE_SCRIPT.findall(bytes(page.body).decode())
        known = " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
        )
        page.headers["Content-Security-Policy"] = (
            f"default-src 'none'; script-src 'self' {known}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
            "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        )
        return page

    app.add_api_route("/docs", read_docs, include_in_schema=False)


def serve_asyncapi(app: FastAPI) -> None:
    """Serves the AsyncAPI document as the OpenAPI document is served: and itself undocumented."""
    document = asyncapi.asyncapi_document(version=app.version)

    async def read_asyncapi() -> JSONResponse:
        return JSONResponse(document)

    app.add_api_route(asyncapi.PATH, read_asyncapi, include_in_schema=False)
