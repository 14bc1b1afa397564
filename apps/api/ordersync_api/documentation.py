"""The description as a page for people: one file, no script, and nothing from elsewhere."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from html import escape
from typing import Any

import msgspec
from starlette.responses import HTMLResponse, Response

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2733; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: #f4f6f8; padding: .75rem; overflow-x: auto; border-radius: 6px; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #d8dee4; }
details { border: 1px solid #d8dee4; border-radius: 6px; margin: .5rem 0; padding: .5rem .75rem; }
summary { cursor: pointer; }
.method { display: inline-block; min-width: 4.5rem; font-weight: 700; color: #0b5cad; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #eef1f4; }
@media (prefers-color-scheme: dark) {
  body { background: #12181f; color: #dfe6ee; } pre { background: #1c2530; }
  .method { color: #6db3ff; } details, h2, td, th { border-color: #2c3845; }
}
""".strip()
_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
)


def page(openapi: Mapping[str, Any]) -> Response:
    return HTMLResponse(
        "\n".join(_lines(openapi)),
        headers={"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"},
    )


def _lines(openapi: Mapping[str, Any]) -> Iterator[str]:
    info = openapi["info"]
    title = escape(f"{info['title']} {info['version']}")
    yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>{title}</h1><p>{escape(info['description'])}</p>"
    yield '<p>For machines: <a href="/openapi.json">/openapi.json</a></p>'
    tag = None
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                yield f"<h2>{escape(tag)}</h2>"
            yield from _operation(method, path, operation)
    yield "<h2>types</h2>"
    for name, schema in openapi["components"]["schemas"].items():
        yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{_json(schema)}</details>'
    yield "</body></html>"


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f'<details><summary><span class="method">{escape(method.upper())}</span> <code>{escape(path)}</code> '
    yield f"{escape(operation['summary'])}</summary>"
    if "description" in operation:
        yield f"<p>{escape(operation['description'])}</p>"
    if operation["parameters"]:
        yield "<table><tr><th>parameter</th><th>in</th><th></th></tr>"
        for parameter in operation["parameters"]:
            yield f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(parameter['in'])}</td>"
            yield f"<td>{escape(parameter.get('description', ''))} {_code(parameter['schema'])}</td></tr>"
        yield "</table>"
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<h4>body <code>{escape(media)}</code></h4>{_json(content['schema'])}"
    for status, response in operation["responses"].items():
        for media, content in response.get("content", {}).items():
            yield f"<h4>{escape(status)} <code>{escape(media)}</code></h4>{_json(content['schema'])}"
    yield "</details>"


def _json(value: Any) -> str:
    return f"<pre>{escape(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())}</pre>"


def _code(value: Any) -> str:
    return f"<code>{escape(msgspec.json.encode(value).decode())}</code>"
