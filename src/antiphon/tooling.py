"""Settings of the tools that reach out: web search, image generation, tool search."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from antiphon.addresses import is_address
from antiphon.settings import SECRET, check_templates, suggestion

Missing = Literal["leave_out", "refuse"]
MISSING: Final = (
    "leave the tool out, so that the model is not told of it, and warn the client, since some declare it unasked; or"
    " refuse the request. A `tool_choice` that names it, and `strict`, refuse it in any case."
)


class SearchPreset(Struct, frozen=True, kw_only=True):
    """What is known of a search provider: its address, the variables that configure it, the names of its key.

    `client_keys` are the members of Llama Stack's provider-data header in which a client may send a key of its own.
    """

    base_url: str = ""
    key_needed: bool = True
    key_envs: tuple[str, ...] = ()
    url_envs: tuple[str, ...] = ()
    client_keys: tuple[str, ...] = ()


SEARCH_PRESETS: Final[Mapping[str, SearchPreset]] = {
    "tavily": SearchPreset(
        base_url="https://api.tavily.com",
        key_envs=("TAVILY_API_KEY", "TAVILY_SEARCH_API_KEY"),
        client_keys=("tavily_search_api_key",),
    ),
    "brave": SearchPreset(
        base_url="https://api.search.brave.com",
        key_envs=("BRAVE_SEARCH_API_KEY", "BRAVE_API_KEY"),
        client_keys=("brave_search_api_key",),
    ),
    "exa": SearchPreset(
        base_url="https://api.exa.ai", key_envs=("EXA_API_KEY",), client_keys=("exa_api_key", "exa_search_api_key")
    ),
    "searxng": SearchPreset(key_needed=False, url_envs=("SEARXNG_URL",)),
}
"""The providers that come with this server, the one that is asked first of several first."""


class SearchProviderConfig(Struct, frozen=True, kw_only=True):
    """A search provider."""

    kind: Annotated[
        str, Meta(description="`tavily`, `brave`, `exa`, `searxng`, or a plug-in's name; by default its own name.")
    ] = ""
    base_url: Annotated[str, Meta(description="Where it is, if it is not the provider's own address.")] = ""
    key: Annotated[str, Meta(description="The API key; best written as `env:NAME`.", extra=SECRET)] = ""


class WebSearchConfig(Struct, frozen=True, kw_only=True):
    """The tool `web_search`: who is asked, and what a model is told. The defaults are Llama Stack's with Tavily."""

    providers: Annotated[
        dict[str, SearchProviderConfig],
        Meta(description="Search providers by name, beside those whose keys are in the environment."),
    ] = msgspec.field(default_factory=dict)
    provider: Annotated[
        str, Meta(description="The one that is asked; empty: the first that has a key, the client's own included.")
    ] = ""
    missing: Annotated[Missing, Meta(description=f"Where no provider can be asked: {MISSING}")] = "leave_out"
    pages: Annotated[
        bool | None,
        Meta(
            description="Let the model open pages (`open_page`, `find_in_page`); by default where URLs are fetched"
            " (`fetch.enabled`) and nothing is recorded or replayed."
        ),
    ] = None
    page_chars_max: Annotated[int, Meta(ge=100, description="Characters of a page that a model is told.")] = 20_000
    name: Annotated[str, Meta(description="The function that the model calls.")] = "web_search"
    description: Annotated[str, Meta(description="What the model is told of it.")] = "Search the web for information"
    query_description: Annotated[str, Meta(description="What the model is told of its argument.")] = (
        "The query to search for"
    )
    header: Annotated[
        str,
        Meta(
            description="Before the results. Fields: {query}, {count}, {json} (all results, as the provider has them)."
        ),
    ] = "{json}"
    result: Annotated[
        str,
        Meta(
            description="Each result. Fields: {index}, {url}, {title}, {snippet}, {published}, {marker}: what the model"
            " may write to cite the page. Links to it in Markdown are citations in any case."
        ),
    ] = ""
    footer: Annotated[str, Meta(description="After the results. Fields: {query}, {count}.")] = ""

    def __post_init__(self) -> None:
        """Raises `ValueError` for a template with a field that there is not."""
        fields = {
            "header": ("query", "count", "json"),
            "result": ("index", "url", "title", "snippet", "published", "marker"),
            "footer": ("query", "count"),
        }
        check_templates(self, fields)


def with_searches(config: WebSearchConfig, environ: Mapping[str, str]) -> WebSearchConfig:
    """The settings of web search with the providers that the environment names, and the keys it has.

    As with hosts, such a key goes to the provider's own address, or to one from the environment.
    """
    providers = dict(config.providers)
    for name, preset in SEARCH_PRESETS.items():
        given = providers.get(name, SearchProviderConfig())
        url, key = given.base_url or _first(preset.url_envs, environ), given.key
        if not key and not given.base_url:
            key = _first(preset.key_envs, environ)
        if name in providers or (key if preset.key_needed else url):
            providers[name] = replace(given, base_url=url, key=key)
    return replace(config, providers=providers)


def wrong_searches(config: WebSearchConfig) -> Iterator[str]:
    """What is of the right type there and wrong all the same."""
    known = {*config.providers, *SEARCH_PRESETS}
    if config.provider and config.provider not in known:
        yield f"web_search.provider: there is no provider {config.provider!r}.{suggestion(config.provider, known)}"
    for name, given in config.providers.items():
        if given.base_url and not is_address(given.base_url):
            yield f"web_search.providers.{name}.base_url: expected an address, got {given.base_url!r}."


def _first(names: tuple[str, ...], environ: Mapping[str, str]) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")


class ImageGenerationConfig(Struct, frozen=True, kw_only=True):
    """Images: the tool `image_generation`, and `/v1/images`."""

    model: Annotated[
        str, Meta(description="The image model that is asked by default; empty: the only one there is.")
    ] = ""
    missing: Annotated[Missing, Meta(description=f"Where the tool has no image model: {MISSING}")] = "leave_out"


class ToolSearchConfig(Struct, frozen=True, kw_only=True):
    """The tool `tool_search`: how deferred tools are searched, and how many a search makes known."""

    count: Annotated[int, Meta(ge=1, le=100, description="Tools that one search finds.")] = 5
    by_meaning: Annotated[
        bool,
        Meta(description="Search by meaning too, where there is the embedding model that new vector stores have."),
    ] = True
