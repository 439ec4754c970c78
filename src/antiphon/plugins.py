"""Providers by name: ours and those of installed packages come through the same door, an entry point.

A package offers a dialect with `[project.entry-points."antiphon.providers"]`, `name = "package.module:factory"`. The
factory is called with the `config.Host` to talk to and the `exchange.Transport` to send through. Reading what is
installed costs 40 ms, so it is done only for a name that is not ours.
"""

import pkgutil
from collections.abc import Callable
from typing import Any, Final

from antiphon.config import ConfigError

GROUP: Final = "antiphon.providers"
BUILT_IN: Final = {
    "chat_completions": "antiphon.models.chat_completions:ChatCompletions",
    "local": "antiphon.models.local.provider:Local",
}
"""Our own entry points, as pyproject.toml declares them; known without reading the installed packages."""


def provider_factory(name: str) -> Callable[..., Any]:
    """What makes providers of the dialect `name`. Raises `ConfigError`."""
    found = BUILT_IN.get(name) or installed().get(name)
    if found is None:
        known = ", ".join(sorted({*BUILT_IN, *installed()}))
        raise ConfigError([f"No provider named {name!r} is installed (entry points {GROUP!r}). There are: {known}."])
    try:
        factory: Any = pkgutil.resolve_name(found)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError([f"The provider {name!r} ({found}) cannot be loaded: {error}."]) from error
    if not callable(factory):
        raise ConfigError([f"The provider {name!r} ({found}) is not something that can be called."])
    return factory  # type: ignore[no-any-return]


def installed() -> dict[str, str]:
    """The providers that installed packages offer: name -> `package.module:factory`."""
    from importlib.metadata import entry_points  # 40 ms

    return {each.name: each.value for each in entry_points(group=GROUP)}
