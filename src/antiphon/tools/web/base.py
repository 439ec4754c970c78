"""The seam between web search and who is asked: one method, and how a provider's HTTP API is spoken to.

A provider turns `Wanted` into `Result`s. It is made with an `Endpoint`, through which all its requests pass: so they
are recorded, replayed and translated as all others are. Its factory is found by entry point (`plugins`).
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Struct

from antiphon.egress import read_whole
from antiphon.errors import InvalidRequest, Upstream
from antiphon.exchange import Outgoing, Timeouts, Transport
from antiphon.models.base import Access
from antiphon.tooling import SEARCH_PRESETS, SearchProviderConfig
from antiphon.wire.tools import ContextSize, UserLocation

ANSWER_BYTES_MAX = 8 * 1024 * 1024
TIMEOUTS = Timeouts(connect_s=10, first_byte_s=30, idle_s=30)

log = logging.getLogger("antiphon.tools")


class Wanted(Struct, frozen=True, kw_only=True):
    """What to search for. Domains hold with their subdomains, and are bare: `example.org`."""

    query: str
    count: int
    size: ContextSize = "medium"
    location: UserLocation | None = None
    allowed: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()

    def allows(self, url: str) -> bool:
        """Whether the domain filters let this URL through."""
        host = _host(url)
        return not within(host, self.blocked) and (not self.allowed or within(host, self.allowed))


class Result(Struct, frozen=True, kw_only=True):
    """A page that was found. `told` is what a model is told of it, where the template is `{json}`."""

    url: str
    title: str
    snippet: str = ""
    published: str | None = None
    told: Mapping[str, Any]


class SearchProvider(Protocol):
    """Who searches the web."""

    async def search(self, wanted: Wanted, access: Access) -> list[Result]:
        """The best pages first; the filters may be obeyed, and are enforced elsewhere. Raises `ApiError`s only."""
        ...


class Endpoint:
    """A provider's HTTP API: its address, the key for it, and the transport."""

    def __init__(self, name: str, config: SearchProviderConfig, transport: Transport) -> None:
        preset = SEARCH_PRESETS.get(config.kind or name)
        self.name = name
        self._base_url = (config.base_url or (preset.base_url if preset else "")).rstrip("/")
        self._key = config.key
        self._client_keys = preset.client_keys if preset else ()
        self._key_needed = preset is not None and preset.key_needed
        self._transport = transport

    def key(self, access: Access) -> str:
        """The client's own key for this provider, or the configured one, or ""."""
        return next((access.keys[name] for name in self._client_keys if access.keys.get(name)), self._key)

    def usable(self, access: Access) -> bool:
        """Whether it can be asked: there is an address, and a key if one is needed."""
        return bool(self._base_url) and (not self._key_needed or bool(self.key(access)))

    async def get(self, path: str, params: Mapping[str, str], headers: Mapping[str, str], *, access: Access) -> Any:
        """The JSON that a GET answers. Raises `Upstream`, naming the provider, for anything else."""
        return await self._json("GET", f"{path}?{urlencode(params)}", headers, access=access)

    async def post(self, path: str, body: Any, headers: Mapping[str, str], *, access: Access) -> Any:
        """Likewise, with a JSON body."""
        headers = {"Content-Type": "application/json", **headers}
        return await self._json("POST", path, headers, access=access, body=msgspec.json.encode(body))

    async def _json(
        self, method: str, path: str, headers: Mapping[str, str], *, access: Access, body: bytes = b""
    ) -> Any:
        answer = await self._transport.send(
            Outgoing(
                method=method,
                url=self._base_url + path,
                headers={"Accept": "application/json", **headers},
                body=body,
                host=self.name,
                timeouts=TIMEOUTS,
                replay=access.replay,
            )
        )
        content = await read_whole(answer, bytes_max=ANSWER_BYTES_MAX)
        if answer.status != 200:
            log.warning("search refused", extra={"provider": self.name, "status": answer.status})
            raise Upstream(f"The search provider {self.name!r} answered with status {answer.status}.")
        try:
            return msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Upstream(f"The search provider {self.name!r} sent something that is not JSON.") from error


def found(listed: Any) -> list[dict[str, Any]]:
    """Of a provider's results, those that are objects with a web address; a shape that is not known is none."""
    results = listed if isinstance(listed, list) else []
    return [each for each in results if isinstance(each, dict) and str(each.get("url", "")).startswith("http")]


def sited(wanted: Wanted) -> str:
    """The query with its domains as search operators, for providers that have no parameter for them."""
    allowed = " OR ".join(f"site:{domain}" for domain in wanted.allowed)
    parts = [wanted.query, f"({allowed})" if len(wanted.allowed) > 1 else allowed]
    return " ".join(part for part in [*parts, *(f"-site:{domain}" for domain in wanted.blocked)] if part)


def domains(given: Sequence[str] | None, at: str) -> tuple[str, ...]:
    """Domains as a client names them, bare and in lower case. Raises `InvalidRequest` for what is none."""
    bare = []
    for index, each in enumerate(given or ()):
        domain = _host(each if "://" in each else f"https://{each}")
        if "." not in domain:
            raise InvalidRequest(f"{each!r} is no domain, such as 'example.org'.", param=f"{at}[{index}]")
        bare.append(domain.removeprefix("www."))
    return tuple(bare)


def within(host: str, given: Sequence[str]) -> bool:
    """Whether a host is one of the domains, or below one."""
    return any(host == domain or host.endswith(f".{domain}") for domain in given)


def _host(url: str) -> str:
    try:
        return (urlsplit(url.strip()).hostname or "").rstrip(".")
    except ValueError:
        return ""
