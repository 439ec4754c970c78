"""Which model is where: hosts, the models they list, aliases, and the rules by which a name finds one of them.

A host that is down stops nothing. Its models are asked for in the background, sooner after a failure, and appear when
it returns; a request waits for a first answer once, briefly. `host/model` is passed on without asking whether the host
lists it, since many hosts serve more than they list.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from antiphon.config import Config, Host, Kind, hosts
from antiphon.errors import ApiError, InvalidRequest, NotFound, UpstreamTimeout
from antiphon.exchange import Transport
from antiphon.models.base import NO_ACCESS, Access, ModelInfo, Provider
from antiphon.plugins import provider_factory
from antiphon.presets import DEFAULT_QUIRKS, OPENAI_QUIRKS, Quirks
from antiphon.settings import MASK, masked
from antiphon.wire.models import CustomMetadata, Model, ModelList, ProviderEntry, ProviderHealth

EMBEDDING_NAME: Final = re.compile(r"embed|(^|[/_:.-])(all-minilm|bge|e5|gte)[-_:]", re.IGNORECASE)
"""What tells an embedding model where nothing but its name is known."""
RERANK_NAME: Final = re.compile(r"rerank", re.IGNORECASE)

IMAGE_NAME: Final = re.compile(
    r"gpt-image|chatgpt-image|dall-e|imagen-|(^|[/_:.-])flux|stable-diffusion|sdxl|qwen-image|seedream", re.IGNORECASE
)

log = logging.getLogger("antiphon.catalog")
_encode = msgspec.json.Encoder().encode
_Models = list[Model]
_Entries = list[ProviderEntry]


class Waits(Struct, frozen=True, kw_only=True):
    """How long hosts that do not answer may hold anything up.

    `first_s` after a host was first asked, requests still wait for it to be heard of (`probe_s` if nobody named it);
    `miss_s` is how long a request for an unknown name, or for the hosts' health, waits for fresh lists, which it causes
    at most every `miss_interval_s`. Listing may take `ask_s`. The pauses after failures are `retry_s`; the last one
    holds until the host answers.
    """

    first_s: float = 2.0
    probe_s: float = 0.05
    miss_s: float = 1.0
    miss_interval_s: float = 5.0
    ask_s: float = 10.0
    retry_s: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0)


DEFAULT_WAITS: Final = Waits()


class Resolved(Struct, frozen=True, kw_only=True):
    """Where a name leads: the host, the host's own name of the model, who talks to it, and what is known of it."""

    host: str
    model: str
    provider: Provider
    info: ModelInfo
    quirks: Quirks = DEFAULT_QUIRKS
    answer_bytes_max: int = 64 * 1024 * 1024

    @property
    def id(self) -> str:
        """The model's public id."""
        return f"{self.host}/{self.model}"


class Catalog:
    """All hosts and their models. Every method but `start` may be used without the background refresh running."""

    def __init__(
        self,
        known: Mapping[str, Host],
        providers: Mapping[str, Provider],
        *,
        aliases: Mapping[str, str] | None = None,
        default_host: str = "",
        refresh_s: float = 300.0,
        waits: Waits = DEFAULT_WAITS,
    ) -> None:
        self._shelves = {name: _Shelf(host, providers[name], waits) for name, host in known.items()}
        self._waits = waits
        self._aliases = dict(aliases or {})
        self._default_host = default_host
        self._refresh_s = refresh_s
        self._keepers: list[asyncio.Task[None]] = []
        self._cached: tuple[int, bytes] | None = None

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Begins to keep the lists fresh. Returns at once."""
        self._keepers = [asyncio.create_task(self._keep(shelf)) for shelf in self._shelves.values() if shelf.listing]

    async def close(self) -> None:
        """Stops asking hosts."""
        tasks = [*self._keepers, *(shelf.asking for shelf in self._shelves.values() if shelf.asking)]
        self._keepers = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def refresh(self) -> None:
        """Asks every host for its models now, and waits for all answers."""
        if self._shelves:
            await asyncio.wait({shelf.ask() for shelf in self._shelves.values()})

    async def _keep(self, shelf: "_Shelf") -> None:
        while True:
            await asyncio.wait((shelf.ask(),))
            pause_s = shelf.pause_s(self._refresh_s)
            if shelf.down.is_set():
                await asyncio.sleep(pause_s)
            else:
                with contextlib.suppress(TimeoutError):  # somebody else may find it down earlier
                    await asyncio.wait_for(shelf.down.wait(), pause_s)

    # ------------------------------------------------------------ one model

    async def resolve(self, name: str, _access: Access = NO_ACCESS, *, kind: Kind = "llm") -> Resolved:
        """The model that a request names, for chat (`llm`), embeddings, reranking or images.

        Raises `NotFound` (`model_not_found`), or `InvalidRequest` where several hosts have it (`ambiguous_model`) or
        it is of the other kind (`wrong_model_type`).
        """
        target = self._aliases.get(name, name)
        found = self._find(target, name)
        if found is None:
            await self._heard()
            found = self._find(target, name)
        if found is None and await self._asked_again():
            found = self._find(target, name)
        found = found or self._guess(target)
        if found is None:
            raise _no_model(name)
        shelf, model = found
        shelf.check_kind(model, kind, name)
        return shelf.resolved(model)

    async def only(self, kind: Kind) -> Resolved | None:
        """The one listed model of this kind; None where there is none, or a choice."""
        await self._heard()
        found = [
            (shelf, model) for shelf in self._shelves.values() for model in shelf if shelf.described(model).kind == kind
        ]
        return found[0][0].resolved(found[0][1]) if len(found) == 1 else None

    def _find(self, target: str, name: str) -> "tuple[_Shelf, str] | None":
        """The host that a prefix names, or the only one that has this model."""
        host, _, model = target.partition("/")
        if model and host in self._shelves:
            return self._shelves[host], model
        having = [(shelf, known) for shelf in self._shelves.values() if (known := shelf.known_as(target))]
        if len(having) > 1:
            several = ", ".join(f"'{shelf.host.name}/{known}'" for shelf, known in having)
            message = f"The model '{name}' is offered by several hosts: name one of {several}."
            raise InvalidRequest(message, param="model", code="ambiguous_model")
        return having[0] if having else None

    def _guess(self, target: str) -> "tuple[_Shelf, str] | None":
        """The one host that may have a model without listing it."""
        shown = [shelf for shelf in self._shelves.values() if shelf.shown]
        only = shown[0] if len(shown) == 1 else self._shelves.get(self._default_host)
        return (only, target) if only is not None and target and not only.answering else None

    def provider(self, host: str) -> Provider:
        """Who talks to this host. Raises `NotFound` for one that is no longer configured."""
        if host not in self._shelves:
            raise NotFound(f"There is no model host '{host}'.", param="model", code="model_not_found")
        return self._shelves[host].provider

    def quirks(self, host: str) -> Quirks:
        """How this host departs from OpenAI's dialect; where no host is named, it does not."""
        return self._shelves[host].host.quirks if host in self._shelves else OPENAI_QUIRKS

    def learn_dimension(self, host: str, model: str, dimension: int) -> None:
        """Remembers how long this model's vectors are, from an answer to a request that did not choose `dimensions`."""
        if (shelf := self._shelves.get(host)) is not None and shelf.described(model).dimension is None:
            shelf.learn(model, dimension)

    # ------------------------------------------------------------ all models

    async def list(self) -> _Models:
        """Every known model of every host, then the aliases that lead to one."""
        await self._heard()
        return self._models()

    async def list_json(self) -> bytes:
        """The body of `GET /v1/models`, encoded once per change."""
        if self._cached is None or self._cached[0] != self._version():
            models = await self.list()
            self._cached = (self._version(), _encode(ModelList(data=models)))
        return self._cached[1]

    async def get(self, name: str) -> Model:
        """One model by id, alias or unambiguous bare name. Raises `NotFound` where the list does not have it."""
        await self._heard()
        found = self._find(self._aliases.get(name, name), name)
        if found is None or not found[0].offers(found[1]):
            raise _no_model(name)
        shelf, model = found
        return _model(name if name in self._aliases else f"{shelf.host.name}/{model}", shelf, model)

    async def providers(self) -> _Entries:
        """Every model host with its health."""
        await self._heard()
        await self._asked_again()
        return [shelf.entry() for shelf in self._shelves.values() if shelf.shown]

    async def get_provider(self, name: str) -> ProviderEntry:
        """One model host by name. Raises `NotFound`."""
        await self._heard()
        await self._asked_again()
        if name not in self._shelves or not self._shelves[name].shown:
            raise NotFound(f"Provider '{name}' not found.", code="provider_not_found")
        return self._shelves[name].entry()

    def _models(self) -> _Models:
        made = [
            _model(f"{shelf.host.name}/{model}", shelf, model) for shelf in self._shelves.values() for model in shelf
        ]
        ids = {model.id: model for model in made}
        for alias, target in self._aliases.items():
            try:
                found = self._find(target, target)
            except InvalidRequest:
                continue  # ambiguous: said when it is used
            if found is not None and alias not in ids:
                made.append(_model(alias, *found))
        return made

    async def _heard(self) -> None:
        """Waits briefly for hosts that were never heard of; once the time after the first question is over, no more."""
        if unheard := [shelf for shelf in self._shelves.values() if shelf.first_wait_s() > 0]:
            wait_s = max(shelf.first_wait_s() for shelf in unheard)
            await asyncio.wait([shelf.ask() for shelf in unheard], timeout=wait_s)

    async def _asked_again(self) -> bool:
        """Whether there were hosts to ask anew, and what they answer within a moment is known."""
        waiting = [shelf.ask() for shelf in self._shelves.values() if shelf.stale()]
        if waiting:
            await asyncio.wait(waiting, timeout=self._waits.miss_s)
        return bool(waiting)

    def _version(self) -> int:
        return sum(shelf.version for shelf in self._shelves.values())


def catalog_of(config: Config, transport: Transport) -> Catalog:
    """The catalog that a configuration asks for. Raises `ConfigError` for a dialect that is not installed."""
    known = hosts(config)
    return Catalog(
        known,
        {name: provider_factory(host.dialect)(host, transport) for name, host in known.items()},
        aliases=config.aliases,
        default_host=config.default_host,
        refresh_s=config.models_refresh_s,
    )


class _Shelf:
    """One host and what it was last seen to offer."""

    def __init__(self, host: Host, provider: Provider, waits: Waits) -> None:
        self._waits = waits
        self.host = host
        self.provider = provider
        self.listing = host.list_models
        self.version = 0
        self.answering = False
        self.error = ""
        self.down = asyncio.Event()
        self.asking: asyncio.Task[None] | None = None
        self.shown = not host.probed
        self._failures = 0
        self._asked_at = 0.0
        self._learned: dict[str, int] = {}
        self._infos = self._described([])

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    # ------------------------------------------------------------ asking

    def ask(self) -> asyncio.Task[None]:
        """The question that is under way, or a new one."""
        if self.asking is None or self.asking.done():
            self.asking = asyncio.create_task(self._ask())
        return self.asking

    async def _ask(self) -> None:
        if not self.listing:
            return
        self._asked_at = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._waits.ask_s):
                listed = await self.provider.models(NO_ACCESS)
        except TimeoutError:
            ask_s = self._waits.ask_s
            self._failed(UpstreamTimeout(f"Model host {self.host.name} did not list its models within {ask_s:g} s."))
        except ApiError as error:
            self._failed(error)
        else:
            self._answered(listed)

    def _failed(self, error: ApiError) -> None:
        if not self._failures and self.shown:
            log.warning("model host does not list its models: %s", error.message, extra={"host": self.host.name})
        self._failures += 1
        self.down.set()
        # The models it had stay listed: a host that returns in a moment should not make clients forget them.
        self.answering, self.error = False, error.message

    def _answered(self, listed: list[ModelInfo]) -> None:
        if not self.answering:
            log.info("model host answers", extra={"host": self.host.name, "models": len(listed)})
        infos = self._described(listed)
        if infos != self._infos or not self.shown:
            self._infos, self.shown = infos, True
            self.version += 1
        self.answering, self.error, self._failures = True, "", 0
        self.down.clear()

    def pause_s(self, refresh_s: float) -> float:
        """How long until the host is asked again."""
        if not self._failures:
            return refresh_s
        retry_s = self._waits.retry_s
        return min(retry_s[min(self._failures, len(retry_s)) - 1], refresh_s)

    def first_wait_s(self) -> float:
        """How long a request should wait for this host: not at all once it was heard of, or its time is over."""
        if not self.listing or self.answering or self._failures:
            return 0.0
        first_s = self._waits.probe_s if self.host.probed else self._waits.first_s
        if not self._asked_at:
            return first_s
        return self._asked_at + first_s - asyncio.get_running_loop().time()

    def stale(self) -> bool:
        """Whether an unknown name or a look at its health is a reason to ask again: not while it is down, nor often."""
        since_s = asyncio.get_running_loop().time() - self._asked_at
        return self.listing and self.answering and since_s >= self._waits.miss_interval_s

    # ------------------------------------------------------------ models

    def known_as(self, model: str) -> str:
        """The name under which this host has the model; empty if it has not. `x` also finds Ollama's `x:latest`."""
        return next((name for name in (model, f"{model}:latest") if name in self._infos), "")

    def offers(self, model: str) -> bool:
        """Whether the model is listed, or may be there although it is not."""
        return model in self._infos or not self.answering

    def described(self, model: str) -> ModelInfo:
        """What is known of a model, listed or not."""
        info = self._infos.get(model) or self._describe(ModelInfo(id=model))
        learned = self._learned.get(model)
        return replace(info, kind="embedding", dimension=learned) if learned else info

    def learn(self, model: str, dimension: int) -> None:
        """Notes the length of an embedding model's vectors."""
        self._learned[model] = dimension
        self.version += 1

    def resolved(self, model: str) -> Resolved:
        """Where a name leads that was found to be this model's."""
        host = self.host
        return Resolved(
            host=host.name,
            model=model,
            provider=self.provider,
            info=self.described(model),
            quirks=host.quirks,
            answer_bytes_max=host.answer_bytes_max,
        )

    def check_kind(self, model: str, wanted: Kind, name: str) -> None:
        """Refuses a model of the other kind, where that is certain.

        Some hosts embed with any model, so that only a configured `llm` is refused for embeddings.
        """
        info = self._infos.get(model) or self._describe(ModelInfo(id=model))
        sure = info.kind != "llm" or model in self.host.models
        if info.kind != wanted and sure:
            use = {"llm": "chat or completions", "embedding": "embeddings", "rerank": "reranking", "image": "images"}
            message = f"The model '{name}' is for {use[info.kind]} and cannot be used for {use[wanted]}."
            raise InvalidRequest(message, param="model", code="wrong_model_type")

    def _described(self, listed: Iterable[ModelInfo]) -> dict[str, ModelInfo]:
        prefix = self.host.listed_prefix
        infos = {(name := info.id.removeprefix(prefix)): self._describe(replace(info, id=name)) for info in listed}
        for name in self.host.models:
            infos.setdefault(name, self._describe(ModelInfo(id=name)))
        return infos

    def _describe(self, info: ModelInfo) -> ModelInfo:
        """A model with what configuration, preset and its name say of it, in this order of authority."""
        configured, dimension = self.host.models.get(info.id), self.host.embeddings.get(info.id)
        if configured is not None:
            return replace(
                info,
                kind=configured.kind,
                dimension=configured.dimension or info.dimension or dimension,
                context_window=configured.context_window or info.context_window,
            )
        if dimension is not None:
            return replace(info, kind="embedding", dimension=info.dimension or dimension)
        if info.kind == "llm" and RERANK_NAME.search(info.id):
            return replace(info, kind="rerank")
        if info.kind == "llm" and EMBEDDING_NAME.search(info.id):
            return replace(info, kind="embedding")
        if info.kind == "llm" and IMAGE_NAME.search(info.id):
            return replace(info, kind="image")
        return info

    def entry(self) -> ProviderEntry:
        """The host as `/v1/providers` shows it."""
        if not self.listing:
            health = ProviderHealth(status="Not Implemented", message="This host cannot be asked for its health.")
        elif self.answering:
            health = ProviderHealth(status="OK")
        else:
            health = ProviderHealth(status="Error", message=self.error or "The host has not answered yet.")
        shown: dict[str, Any] = {"base_url": masked(self.host.base_url)}
        if self.host.key:
            shown["api_key"] = MASK
        if self.host.headers:
            shown["headers"] = dict.fromkeys(self.host.headers, MASK)
        return ProviderEntry(
            provider_id=self.host.name, provider_type=self.host.provider_type, config=shown, health=health
        )


def _model(name: str, shelf: _Shelf, model: str) -> Model:
    """A model as the public API shows it."""
    info, host = shelf.described(model), shelf.host.name
    metadata: dict[str, Any] = {}
    if info.dimension:
        metadata["embedding_dimension"] = info.dimension
    if info.context_window:
        metadata["context_length"] = info.context_window
    return Model(
        id=name,
        created=info.created,
        owned_by=info.owned_by or host,
        custom_metadata=CustomMetadata(
            model_type=info.kind,
            provider_id=host,
            provider_resource_id=model,
            embedding_dimension=info.dimension,
            context_length=info.context_window,
        ),
        identifier=name,
        provider_id=host,
        provider_resource_id=model,
        model_type=info.kind,
        metadata=metadata,
    )


def _no_model(name: str) -> NotFound:
    message = f"The model '{name}' does not exist or you do not have access to it."
    return NotFound(message, param="model", code="model_not_found")
