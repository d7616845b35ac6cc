"""What a caller of the older document would miss in the newer one: the rules of docs/api.md, "What stays".

Law: what is only added is no break; a document never breaks itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

Json = Mapping[str, Any]

_AT_MOST: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_AT_LEAST: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_ANNOUNCED: Final = {"deprecation", "sunset", "link"}


def breaks(old: Json, new: Json) -> list[str]:
    """Each thing that breaks a caller; none where the version says that it may."""
    unannounced = list(_unannounced(new))
    return unannounced if _may_break(old, new) else [*unannounced, *_operations(old, new)]


def _may_break(old: Json, new: Json) -> bool:
    before, after = ([int(part) for part in each["info"]["version"].split(".")] for each in (old, new))
    return after[0] > before[0] or (before[0] == after[0] == 0 and after[1] > before[1])


def _unannounced(document: Json) -> Iterator[str]:
    for name, operation in _all(document).items():
        if operation.get("deprecated"):
            for status, response in operation["responses"].items():
                missing = _ANNOUNCED - {header.lower() for header in response.get("headers", {})}
                if status[0] in "23" and missing:
                    yield f"{name}: it is deprecated, and {status} does not document {', '.join(sorted(missing))}"


def _all(document: Json) -> dict[str, Any]:
    return {
        f"{method.upper()} {path}": operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def _operations(old: Json, new: Json) -> Iterator[str]:
    now = _all(new)
    for name, before in _all(old).items():
        if name not in now:
            yield f"{name}: gone"
            continue
        yield from _operation(name, before, now[name], _Walk(old, new))


def _operation(name: str, before: Json, after: Json, walk: _Walk) -> Iterator[str]:
    if before.get("security") != after.get("security"):
        yield f"{name}: another scope is needed"
    parameters = {(each["in"], each["name"]): each for each in after.get("parameters", ())}
    known = {(each["in"], each["name"]): each for each in before.get("parameters", ())}
    for key, parameter in known.items():
        if key not in parameters:
            yield f"{name} {key[1]}: parameter gone"
            continue
        yield from walk.taken(f"{name} {key[1]}", parameter["schema"], parameters[key]["schema"])
    for key, parameter in parameters.items():
        if parameter.get("required") and not known.get(key, {}).get("required"):
            yield f"{name} {key[1]}: parameter has become required"
    body, told = before.get("requestBody", {}), after.get("requestBody", {})
    if told.get("required") and not body.get("required"):
        yield f"{name}: a body has become required"
    for media_type, content in body.get("content", {}).items():
        if media_type not in told.get("content", {}):
            yield f"{name}: {media_type} is not taken any more"
        else:
            now = told["content"][media_type]
            yield from walk.taken(f"{name} body", content.get("schema", {}), now.get("schema", {}))
    for status, response in before["responses"].items():
        if status[0] not in "23":
            continue
        if status not in after["responses"]:
            yield f"{name}: {status} gone"
            continue
        contents = after["responses"][status].get("content", {})
        for media_type, content in response.get("content", {}).items():
            if media_type not in contents:
                yield f"{name} {status}: {media_type} gone"
            else:
                now = contents[media_type]
                yield from walk.given(f"{name} {status}", content.get("schema", {}), now.get("schema", {}))


class _Walk:
    """Two schemas side by side, each in its document; of a recursion one round is enough."""

    def __init__(self, old: Json, new: Json) -> None:
        self._old, self._new = old, new
        self._under_way: set[tuple[str, str]] = set()

    def taken(self, at: str, old: Json, new: Json) -> Iterator[str]:
        """What a caller sends: whatever was taken still is."""
        yield from self._compare(at, old, new, sent=True)

    def given(self, at: str, old: Json, new: Json) -> Iterator[str]:
        """What a caller gets: whatever was promised still is."""
        yield from self._compare(at, old, new, sent=False)

    def _compare(self, at: str, old: Json, new: Json, *, sent: bool) -> Iterator[str]:
        pair = (str(old.get("$ref")), str(new.get("$ref")))
        if "$ref" in old and "$ref" in new:
            if pair in self._under_way:
                return
            self._under_way.add(pair)
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        kinds, now = _kinds(old, self._old), _kinds(new, self._new)
        narrow, wide = (kinds, now) if sent else (now, kinds)
        lost = narrow.keys() - wide.keys()
        if "number" in wide:
            lost -= {"integer"}
        if wide.keys() != {"any"} and lost:
            yield f"{at}: {', '.join(sorted(lost))} {'is not taken any more' if sent else 'was not to be expected'}"
        for kind in kinds.keys() & now.keys():
            yield from self._kind(at, kinds[kind], now[kind], sent=sent)
        self._under_way.discard(pair)

    def _kind(self, at: str, old: Json, new: Json, *, sent: bool) -> Iterator[str]:
        if sent:
            values = new.get("enum", [new["const"]] if "const" in new else None)
            gone = [] if values is None else [each for each in old.get("enum", ["anything"]) if each not in values]
            if gone:
                yield f"{at}: {', '.join(map(str, gone))} is not taken any more"
            for names, narrower in ((_AT_MOST, min), (_AT_LEAST, max)):
                for name in names:
                    bound, now = old.get(name), new.get(name)
                    if now is not None and (bound is None or (now != bound and narrower(now, bound) == now)):
                        yield f"{at}: {name} is {now} and was {bound}"
        must, now_must = set(old.get("required", ())), set(new.get("required", ()))
        for name in sorted(now_must - must if sent else must - now_must):
            yield f"{at}.{name}: {'has become required' if sent else 'may be missing now'}"
        members = new.get("properties", {})
        for name, schema in old.get("properties", {}).items():
            if name not in members:
                yield f"{at}.{name}: gone"
            else:
                yield from self._compare(f"{at}.{name}", schema, members[name], sent=sent)
        for name in ("items", "additionalProperties"):
            if isinstance(old.get(name), dict) and isinstance(new.get(name), dict):
                yield from self._compare(f"{at}[]", old[name], new[name], sent=sent)


def _resolved(schema: Json, document: Json) -> Json:
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def _kinds(schema: Json, document: Json) -> dict[str, Json]:
    """By JSON type, what of the schema is about it."""
    alternatives = [each for name in ("anyOf", "oneOf") for each in schema.get(name, ())]
    if alternatives:
        return {
            kind: part for each in alternatives for kind, part in _kinds(_resolved(each, document), document).items()
        }
    types = schema.get("type", "any")
    return dict.fromkeys([types] if isinstance(types, str) else types, schema)
