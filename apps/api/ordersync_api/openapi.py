"""The description of the API (OpenAPI 3.1), made from the operations and the types they name."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from ordersync_api.authentication import ADMINISTRATION
from ordersync_api.media import CSV, NDJSON
from ordersync_api.operations import Nothing, Operation
from ordersync_api.problems import MEDIA_TYPE
from ordersync_api.schemas import Schemas
from ordersync_api.shapes import ProblemDocument

VERSION = "3.1.0"

_TITLE = "OrderSync"
_DESCRIPTION = (
    "Keeps a wholesaler's systems in step. Send an access token as `Authorization: Bearer <token>`; name the "
    f"administration with `{ADMINISTRATION}`, which may be left out by a member of exactly one. Codes are "
    "percent-encoded in addresses. Errors are problem documents (RFC 9457)."
)
_HEADERS = {
    "If-Match": "only if the stored version is one of these entity tags, or `*`; otherwise 412",
    "If-None-Match": "on a GET: 304 if the version is one of these entity tags; on a PUT `*`: only if there is none",
}
_PUBLIC_PROBLEMS = (405, 406, 422, 500, 503)
_PROBLEMS = (401, 403, 404, *_PUBLIC_PROBLEMS)
_BODY_PROBLEMS = (413, 415)
_BY_METHOD: Mapping[str, tuple[int, ...]] = {"PUT": (409,), "PATCH": (409,), "DELETE": (409,), "POST": (409, 502)}


def describe(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    schemas.of(ProblemDocument)
    problem = {
        "description": "A problem document",
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}},
    }
    return {
        "openapi": VERSION,
        "info": {"title": _TITLE, "version": version, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {"Problem": problem},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    summary, _, rest = (operation.endpoint.__doc__ or "").partition(".")
    described: dict[str, Any] = {
        "operationId": operation.endpoint.__name__,
        "tags": [operation.tag],
        "summary": " ".join(summary.split()),
        "parameters": _parameters(operation, schemas),
        "responses": _responses(operation, schemas),
        "security": [] if operation.public else [{"token": []}],
    }
    needs = "" if operation.role is None or operation.public else f"Needs the role {operation.role.value}."
    description = " ".join(f"{' '.join(rest.split())} {needs}".split())
    if description:
        described["description"] = description
    body = _body(operation, schemas)
    if body is not None:
        described["requestBody"] = body
    return described


def _parameters(operation: Operation, schemas: Schemas) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": schemas.of(kind)}
        for name, kind in operation.path_parameters.items()
    ]
    for name, schema, required, default in schemas.parameters(operation.query):
        shown = schema if default is None else {**schema, "default": default}
        found.append({"name": name, "in": "query", "required": required, "schema": shown})
        if schema.get("type") == "array":
            found[-1] |= {"style": "form", "explode": False}
    for name in operation.headers:
        found.append({"name": name, "in": "header", "schema": {"type": "string"}, "description": _HEADERS[name]})
    if operation.role is not None and not operation.public:
        found.append({"name": ADMINISTRATION, "in": "header", "schema": {"type": "string"}})
    return found


def _body(operation: Operation, schemas: Schemas) -> dict[str, Any] | None:
    kind = operation.describes or operation.body
    if kind is None or kind is Nothing:
        return None
    schema = schemas.of(kind)
    if operation.describes is not None and not operation.uploads:
        # The address holds the code already.
        name = schema["$ref"].rpartition("/")[2]
        schema = {**schemas.components[name], "required": []}
    required = operation.uploads or operation.body == dict[str, Any] or bool(_required(schema, schemas))
    return {"required": required, "content": {media: {"schema": schema} for media in operation.takes}}


def _required(schema: Mapping[str, Any], schemas: Schemas) -> list[str]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: list[str] = schemas.components.get(name, {}).get("required", [])
    return found


def _responses(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, kind in operation.answers.items():
        responses[str(status)] = {"description": HTTPStatus(status).phrase}
        if kind is not None:
            responses[str(status)]["content"] = {
                media: {"schema": {"type": "string"} if media == CSV else _shape(media, kind, schemas)}
                for media in operation.gives
            }
        if not operation.public:
            responses[str(status)]["headers"] = _response_headers(operation, status)
    for status in _problems(operation):
        responses.setdefault(str(status), {"$ref": "#/components/responses/Problem"})
    return responses


def _shape(media: str, kind: Any, schemas: Schemas) -> dict[str, Any]:
    """NDJSON is described by its line: an export's is one of the rows that the JSON answer has in `data`."""
    schema = schemas.of(kind) if kind is not str else {"type": "string"}
    if media == NDJSON and "$ref" in schema:
        page = schemas.components[schema["$ref"].rpartition("/")[2]]
        return dict(page["properties"].get("data", {}).get("items", schema))
    return schema


def _response_headers(operation: Operation, status: int) -> dict[str, Any]:
    headers = {"X-Request-Id": "names the request in the log and in what it caused"}
    if status == 201 or (status == 202 and operation.creates):
        headers["Location"] = "where it is found"
    if operation.headers and status != 204:
        headers["ETag"] = "the version"
    return {name: {"schema": {"type": "string"}, "description": text} for name, text in headers.items()}


def _problems(operation: Operation) -> list[int]:
    found = set(_PUBLIC_PROBLEMS if operation.public else _PROBLEMS)
    found |= set(_BY_METHOD.get(operation.method, ()))
    if operation.body is not None or operation.uploads:
        found |= set(_BODY_PROBLEMS)
    if "If-Match" in operation.headers:
        found.add(412)
    return sorted(found | set(operation.refuses))
