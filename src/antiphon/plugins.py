"""Providers, indexes, search providers and sandboxes by name: ours and other packages' come through one door.

The door is an entry point. A package offers a dialect with `[project.entry-points."antiphon.providers"]`,
`name = "package.module:factory"`. The factory is called with the `config.Host` to talk to and the `exchange.Transport`
to send through. Those of `antiphon.indexes` are called with the server's `stores.database.Database` and a
`knowledge.IndexConfig`, and return a `vectors.base.VectorIndex`; those of `antiphon.search_providers` with a
`tools.web.base.Endpoint`, and return a `tools.web.base.SearchProvider`; those of `antiphon.sandboxes` with a
`hosted.SandboxConfig`, and return a `tools.sandbox.base.Sandbox`. Reading what is installed costs 40 ms, so it is done
only for a name that is not ours.
"""

import pkgutil
from collections.abc import Callable
from typing import Any, Final

from antiphon.config import ConfigError

PROVIDERS: Final = "antiphon.providers"
INDEXES: Final = "antiphon.indexes"
SEARCH_PROVIDERS: Final = "antiphon.search_providers"
SANDBOXES: Final = "antiphon.sandboxes"
BUILT_IN: Final = {
    PROVIDERS: {
        "chat_completions": "antiphon.models.chat_completions:ChatCompletions",
        "local": "antiphon.models.local.provider:Local",
    },
    INDEXES: {
        "embedded": "antiphon.vectors.sqlite_index:EmbeddedIndex",
        "postgres": "antiphon.vectors.pg_index:PostgresIndex",
        "qdrant": "antiphon.vectors.qdrant_index:QdrantIndex",
    },
    SEARCH_PROVIDERS: {
        "brave": "antiphon.tools.web.brave:Brave",
        "exa": "antiphon.tools.web.exa:Exa",
        "searxng": "antiphon.tools.web.searxng:SearXNG",
        "tavily": "antiphon.tools.web.tavily:Tavily",
    },
    SANDBOXES: {"kernel": "antiphon.tools.sandbox.kernel:KernelSandbox"},
}
"""Our own entry points by group, as pyproject.toml declares them; known without reading the installed packages."""


def provider_factory(name: str) -> Callable[..., Any]:
    """What makes providers of the dialect `name`. Raises `ConfigError`."""
    return _factory(PROVIDERS, name, "provider")


def index_factory(name: str) -> Callable[..., Any]:
    """What makes indexes of the kind `name`. Raises `ConfigError`."""
    return _factory(INDEXES, name, "index")


def search_factory(name: str) -> Callable[..., Any]:
    """What makes search providers of the kind `name`. Raises `ConfigError`."""
    return _factory(SEARCH_PROVIDERS, name, "search provider")


def sandbox_factory(kind: str) -> Callable[..., Any]:
    """What makes sandboxes of this kind. Raises `ConfigError`."""
    return _factory(SANDBOXES, kind, "sandbox")


def _factory(group: str, name: str, what: str) -> Callable[..., Any]:
    found = BUILT_IN[group].get(name) or installed(group).get(name)
    if found is None:
        known = ", ".join(sorted({*BUILT_IN[group], *installed(group)}))
        raise ConfigError([f"No {what} named {name!r} is installed (entry points {group!r}). There are: {known}."])
    try:
        factory: Any = pkgutil.resolve_name(found)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError([f"The {what} {name!r} ({found}) cannot be loaded: {error}."]) from error
    if not callable(factory):
        raise ConfigError([f"The {what} {name!r} ({found}) is not something that can be called."])
    return factory  # type: ignore[no-any-return]


def installed(group: str) -> dict[str, str]:
    """What installed packages offer in a group: name -> `package.module:factory`."""
    from importlib.metadata import entry_points  # 40 ms

    return {each.name: each.value for each in entry_points(group=group)}
