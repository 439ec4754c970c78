"""A run as data, and what every run needs from outside."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct

from antiphon.clock import Clock
from antiphon.engine.attachments import Asking, Attachments
from antiphon.engine.cite import Annotations
from antiphon.engine.control import Control
from antiphon.engine.emit import Emitter
from antiphon.engine.journal import Announced, Written
from antiphon.engine.seal import Sealer
from antiphon.engine.written_files import WrittenFile
from antiphon.ids import NewId
from antiphon.limits import COMPACTION_PROMPT, Background, Limits, TimeoutsConfig
from antiphon.models.base import Access, ModelRequest
from antiphon.models.catalog import Catalog
from antiphon.stores.conversations import Conversations
from antiphon.stores.responses import Responses
from antiphon.stores.runs import Runs
from antiphon.stores.signals import Signals
from antiphon.tools.base import Offer, ServerTools
from antiphon.tools.offers import Loaded
from antiphon.wire.items import Item
from antiphon.wire.responses import Response


class Engine(Struct, frozen=True, kw_only=True):
    """What runs need: where models, state and attachments are, the time, new ids, limits, and how strict to be."""

    catalog: Catalog
    responses: Responses
    conversations: Conversations
    runs: Runs
    signals: Signals
    background: Background = Background()
    clock: Clock
    new_id: NewId
    sealer: Sealer
    limits: Limits
    attachments: Attachments
    timeouts: TimeoutsConfig = TimeoutsConfig()
    tools: ServerTools = MappingProxyType({})
    strict: bool = False
    compaction_prompt: str = COMPACTION_PROMPT

    async def filled(
        self, request: ModelRequest, host: str, *, owner: str, access: Access, added: Sequence[Item] = ()
    ) -> ModelRequest:
        """The request with its files and images as this host can be given them. Raises as `Attachments.filled`.

        `added` are the items of the client's request, which errors name by their place in it.
        """
        places = {item.id or "": f"input[{index}]" for index, item in enumerate(added)}
        asking = Asking(owner=owner, quirks=self.catalog.quirks(host), replay=access.replay, places=places)
        return await self.attachments.filled(request, asking)


class Recent(Struct, frozen=True, kw_only=True):
    """The context that an unstored response leaves for the next turn of its connection.

    `items` go from the first unstored turn to this one's output; before them stands the context of `stored`.
    """

    items: tuple[Item, ...]
    stored: str | None = None


class Caller(Struct, frozen=True, kw_only=True):
    """Who asks, with what access to the model host, and the seed of the ids that the request leads to.

    `recent` are the unstored responses, by id, that this caller may continue nevertheless.
    """

    owner: str
    access: Access
    seed: bytes
    recent: Mapping[str, Recent] = MappingProxyType({})


class Run(Struct, frozen=True, kw_only=True):
    """Everything that is decided before the first byte: frozen, and plain data, so that it can be queued or stored.

    `response` is the response as it stands when it begins. `input` is what this request adds to the context, completed
    with ids. `access` is how the host is asked. `warnings` name what was not obeyed. A context of more tokens than
    `compact_threshold` is compacted before the model answers; with `compact_only`, it is in any case, and not answered.
    `include` names what its events show beside the usual; `citable` is what earlier searches returned, `written` what
    earlier calls of code wrote, by path. `loaded` is what the context brings beside the request's tools, and is among
    `offers`; `preludes` is what the server's tools do before the model is asked, `secrets` what they may be told and
    nobody else.
    """

    response: Response
    owner: str
    host: str
    access: Access
    request: ModelRequest
    offers: Mapping[str, Offer]
    input: tuple[Item, ...]
    conversation: str | None = None
    sealed: bool = False
    include: tuple[str, ...] = ()
    preludes: tuple[Announced, ...] = ()
    loaded: Loaded = Loaded()
    secrets: Mapping[int, Mapping[str, Any]] = MappingProxyType({})
    citable: Annotations = MappingProxyType({})
    written: Mapping[str, WrittenFile] = MappingProxyType({})
    warnings: tuple[str, ...] = ()
    compact_threshold: int | None = None
    compact_only: bool = False


class Progress(Struct, kw_only=True):
    """A run under way: what it has said so far, how it is told to stop, and what of its journal is in store.

    The emitter's journal has the entries that are not.
    """

    run: Run
    emitter: Emitter
    control: Control
    kept: Written = msgspec.field(default_factory=Written)

    @property
    def fresh(self) -> bool:
        """Whether nothing of it was shown or stored yet."""
        return self.emitter.number < 0


def emitter_of(
    engine: Engine, response: Response, offers: Mapping[str, Offer], *, sealed: bool, include: Collection[str]
) -> Emitter:
    """What makes the events of a response that begins; `sealed`: its reasoning is encrypted for the client."""
    seal = engine.sealer.seal if sealed else None
    return Emitter(response, offers, engine.tools, seal=seal, include=include)


def commands(response_id: str) -> str:
    """The topic of signals to the worker of a run; that of signals to its followers is the response's id."""
    return f"run:{response_id}"
