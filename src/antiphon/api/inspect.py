"""What runs here: health, readiness, version, model hosts, routes, and a page for people.

The `/v1` routes have the shapes that Llama Stack's and OGX's clients read at start.
"""

from html import escape

import msgspec

from antiphon import __version__
from antiphon.api.call import Call
from antiphon.api.openapi import document
from antiphon.api.reply import Reply
from antiphon.api.route import route
from antiphon.wire.models import (
    Health,
    Model,
    ProviderEntry,
    ProviderHealth,
    ProviderList,
    RouteEntry,
    RouteList,
    Version,
)

MODELS_SHOWN = 50


class Readiness(msgspec.Struct, kw_only=True):
    """Whether the server can do its work, and what it lacks."""

    status: str
    missing: list[str]


@route("GET", "/health", answer=Health)
async def health(_call: Call[None, None]) -> Health:
    """Say that the server is alive."""
    return Health()


@route("GET", "/v1/health", answer=Health)
async def health_v1(_call: Call[None, None]) -> Health:
    """Say that the server is alive, where Llama Stack's clients ask."""
    return Health()


@route("GET", "/ready", answer=Readiness)
async def ready(call: Call[None, None]) -> Reply:
    """Say whether the server can do its work; 503 with what is missing if not."""
    missing = await call.services.ready()
    shown = Readiness(status="unavailable" if missing else "ready", missing=missing)
    return Reply(msgspec.json.encode(shown), status=503 if missing else 200)


@route("GET", "/v1/version", answer=Version)
async def version(_call: Call[None, None]) -> Version:
    """Say the server's version."""
    return Version(__version__)


@route("GET", "/v1/providers", answer=ProviderList)
async def list_providers(call: Call[None, None]) -> ProviderList:
    """List the model hosts, and the indexes of vector stores."""
    return ProviderList(data=[*await call.services.catalog.providers(), *_indexes(call)])


@route("GET", "/v1/providers/{provider_id}", answer=ProviderEntry)
async def get_provider(call: Call[None, None]) -> ProviderEntry:
    """Retrieve a model host, or an index of vector stores."""
    name = call.params["provider_id"]
    found = [entry for entry in _indexes(call) if entry.provider_id == name]
    return found[0] if found else await call.services.catalog.get_provider(name)


def _indexes(call: Call[None, None]) -> list[ProviderEntry]:
    """The indexes that a vector store's `provider_id` may name."""
    configured, health = call.services.config.vector_stores.indexes, ProviderHealth(status="OK")
    kinds = {name: configured[name].kind if name in configured else name for name in call.services.ingesting.indexes}
    return [
        ProviderEntry(api="vector_io", provider_id=name, provider_type=f"inline::{kind}", health=health)
        for name, kind in kinds.items()
    ]


@route("GET", "/v1/inspect/routes", answer=RouteList)
async def list_routes(call: Call[None, None]) -> RouteList:
    """List the routes."""
    return RouteList(data=[RouteEntry(route=each.path, method=each.method) for each in call.routes])


@route("GET", "/openapi.json")
async def openapi(call: Call[None, None]) -> bytes:
    """Serve the OpenAPI document of these routes."""
    return document(call.routes)


@route("GET", "/", media="text/html")
async def page(call: Call[None, None]) -> Reply:
    """Show a person what runs here."""
    models = await call.services.catalog.list()
    host = call.headers.get(b"host", b"127.0.0.1:8321").decode("latin-1")
    text = _page(f"{call.scope['scheme']}://{host}/v1", models)
    # Nothing on the page is fetched, run or framed.
    policy = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
    return Reply(text.encode(), media=b"text/html; charset=utf-8", headers=(policy,))


def _page(url: str, models: list[Model]) -> str:
    names = [model.id for model in models]
    model = next((model.id for model in models if model.model_type == "llm"), "HOST/MODEL")
    listed = "".join(f"<li><code>{escape(name)}</code></li>" for name in names[:MODELS_SHOWN])
    if len(names) > MODELS_SHOWN:
        listed += f"<li>and {len(names) - MODELS_SHOWN} more: <code>GET /v1/models</code></li>"
    none = "<p>No model yet. Start the server with a host: <code>OPENAI_API_KEY=... antiphon serve</code>.</p>"
    body = msgspec.json.encode({"model": model, "input": "Hello"}).decode()
    return _HTML.format(
        version=escape(__version__),
        models=f"<ul>{listed}</ul>" if names else none,
        curl=escape(f"curl {url}/responses -H 'content-type: application/json' -d '{body}'"),
        python=escape(_PYTHON.format(url=url, model=model)),
    )


_PYTHON = """\
from openai import OpenAI

client = OpenAI(base_url="{url}", api_key="unused")
print(client.responses.create(model="{model}", input="Hello").output_text)"""

_HTML = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Antiphon</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem }}
pre, code {{ font-family: ui-monospace, monospace; background: #8881; border-radius: 4px }}
pre {{ padding: 1rem; white-space: pre-wrap; overflow-wrap: anywhere }}
code {{ padding: 0 .2rem }} pre code {{ background: none; padding: 0 }}
:root {{ color-scheme: light dark }}
</style>
<h1>Antiphon {version}</h1>
<p>OpenAI's API over any model, with state. This server is running.</p>
<h2>Models</h2>
{models}
<h2>Ask one</h2>
<pre><code>{curl}</code></pre>
<pre><code>{python}</code></pre>
<p><a href="/openapi.json">openapi.json</a> · <a href="/v1/models">models</a> · <a href="/v1/providers">model hosts</a>
· <a href="/ready">ready</a></p>
</html>
"""
