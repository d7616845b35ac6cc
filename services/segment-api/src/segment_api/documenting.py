"""The OpenAPI document, completed: problems in the shape they have, examples as they were written."""

import copy
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from segment_api import problems, schemas

_NOT_OURS = "HTTPValidationError"


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
        for model in vars(schemas).values():
            if isinstance(model, type) and issubclass(model, BaseModel) and model.__name__ in parts:
                example = (model.model_config.get("json_schema_extra") or {}).get("example")  # type: ignore[union-attr]
                if example is not None:
                    parts[model.__name__]["example"] = copy.deepcopy(example)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
