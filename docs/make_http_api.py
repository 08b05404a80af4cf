"""Write the reference of the HTTP API from its OpenAPI document.

python docs/make_http_api.py > docs/http-api.md
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from imagesearch.config import config_of
from imagesearch.frontends.web.app import create_app
from imagesearch.frontends.web.backend import Backend
from imagesearch.service import ImageSearch
from imagesearch.stores.memory import MemoryDatabase

HEAD = """# The HTTP API

`imagesearch serve` answers programs, too: JSON over HTTP, described by the OpenAPI 3.1 document at
`/api/v1/openapi.json`, from which this page is made (`python docs/make_http_api.py`). Where the server has a
token, send it as `Authorization: Bearer TOKEN`. From Python, `imagesearch.Client` has the methods of `ImageSearch`
([python.md](python.md)).

```sh
curl -F image=@photo.jpg -F k=5 http://127.0.0.1:8000/api/v1/search/image
curl -H 'Content-Type: application/json' http://127.0.0.1:8000/api/v1/search \\
    -d '{"parts": [{"kind": "words", "text": "goldfish"}], "k": 5, "where": {"after": "2024"}}'
curl -F image=@photo.jpg http://127.0.0.1:8000/api/v1/classify/image
curl 'http://127.0.0.1:8000/api/v1/pictures?sort=newest&limit=3'
```

Ids of pictures are numbers of 63 bits, as text: JavaScript would lose their last digits. Errors are problem
details (RFC 9457, `application/problem+json`): `type` names the kind for programs, `detail` says in a line what
happened and what to do. 503 comes with `Retry-After`. Answers may get more fields; none is renamed or removed
within `/api/v1`.
"""


# Parts of requests that have a table of their own, and what it is called.
_OWN_TABLES = {
    "WordsPart": "Part of kind `words`",
    "PicturePart": "Part of kind `picture`",
    "PathPart": "Part of kind `path`",
    "UploadPart": "Part of kind `upload`",
    "VectorPart": "Part of kind `vector`",
    "Conditions": "Conditions (`where`)",
}
_BOUNDS = {"minimum": "at least", "maximum": "at most", "maxLength": "characters: at most", "maxItems": "at most"}


def reference() -> str:
    """The page."""
    images = ImageSearch(config_of({}), database=MemoryDatabase())
    backend = Backend(images)
    with contextlib.closing(backend):
        document = create_app(backend).openapi()
    return HEAD + "".join(_operations(document)) + "".join(_parts(document))


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    """A section for each subject."""
    tags: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tags.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    for tag, operations in tags.items():
        yield f"\n## {tag.capitalize()}\n"
        for method, path, operation in operations:
            yield f"\n### {method} {path}\n\n{operation['description']}\n"
            yield from _table(document, _fields(document, operation))
            answers = [status for status in operation["responses"] if int(status) < 400]
            yield f"\nAnswers {', '.join(answers)}{_answer(document, operation)}.\n"


def _parts(document: Mapping[str, Any]) -> Iterator[str]:
    yield "\n## What requests are made of\n"
    for name, title in _OWN_TABLES.items():
        schema = document["components"]["schemas"][name]
        yield f"\n### {title}\n\n{schema['description']}\n"
        required = schema.get("required", ())
        yield from _table(document, [(f, "body", v, f in required) for f, v in schema["properties"].items()])


_Field = tuple[str, str, Mapping[str, Any], bool]


def _fields(document: Mapping[str, Any], operation: Mapping[str, Any]) -> list[_Field]:
    """Name, place, schema of everything that an operation takes, and whether it is required."""
    rows: list[_Field] = [
        (parameter["name"], parameter["in"], parameter["schema"], parameter.get("required", False))
        for parameter in operation.get("parameters", ())
        if parameter["in"] != "path"
    ]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        place = "form" if kind == "multipart/form-data" else "body"
        schema = _resolved(document, content["schema"])
        needed = schema.get("required", ())
        rows += [(name, place, field, name in needed) for name, field in schema["properties"].items()]
    return rows


def _table(document: Mapping[str, Any], fields: list[_Field]) -> Iterator[str]:
    if fields:
        yield "\n| field | in | what |\n|---|---|---|\n"
    for name, place, schema, is_required in fields:
        yield f"| `{name}`{' (required)' if is_required else ''} | {place} | {_about(document, schema)} |\n"


def _answer(document: Mapping[str, Any], operation: Mapping[str, Any]) -> str:
    """What the answer has, in words."""
    contents = next(iter(operation["responses"].values())).get("content", {})
    for kind, content in contents.items():
        if kind != "application/json":
            return f" with {' or '.join(contents)}"
        schema = _resolved(document, content.get("schema", {}))
        if fields := schema.get("properties"):
            return " with " + ", ".join(f"`{name}`" for name in fields)
    return ""


def _about(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """The description, bounds and default of a field, in a cell of a table."""
    inner = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)
    found = _resolved(document, inner)
    words = str(schema.get("description") or found.get("description") or "").rstrip(".")
    limits = [
        f"{sign} {found[key]:,g}" for key, sign in _BOUNDS.items() if isinstance(found.get(key), (int, float))
    ]
    if kinds := _kinds(found):
        limits.append(f"each of kind {kinds}" if found.get("type") == "array" else f"of kind {kinds}")
    if choices := found.get("enum"):
        limits.append(" or ".join(f"`{choice}`" for choice in choices))
    default = schema.get("default")
    if isinstance(default, (int, float, str)) and default != "":
        limits.append(f"default `{str(default).lower()}`")
    said = "; ".join(filter(None, [words.replace("|", "\\|").replace("\n", " "), *limits]))
    return said or str(found.get("const") or found.get("type", ""))


def _kinds(schema: Mapping[str, Any]) -> str:
    """Of a field, or of a list, whose values are told apart by their ``kind``: which there are."""
    choices = schema.get("items", schema).get("discriminator", {}).get("mapping", {})
    return " or ".join(f"`{kind}`" for kind in choices)


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema, wherever it stands."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


if __name__ == "__main__":
    print(reference(), end="")
