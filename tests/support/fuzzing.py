"""What Schemathesis has to be taught to ask this interface; loaded by tests/contract/schemathesis.toml."""

from __future__ import annotations

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(context: Any, value: Any) -> bytes:
    """A text as it is, anything else as a line for each."""
    if isinstance(value, str | bytes):
        return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return b"\n".join(json.dumps(each).encode() for each in (value if isinstance(value, list) else [value]))
