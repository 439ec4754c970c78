"""An engine on a scripted provider and an in-memory database."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from antiphon.config import Host
from antiphon.engine.attachments import Attachments, AttachmentsConfig
from antiphon.engine.perform import perform
from antiphon.engine.prepare import prepare
from antiphon.engine.run import Caller, Engine, Run
from antiphon.engine.seal import Sealer
from antiphon.exchange import Incoming, Outgoing
from antiphon.fetch import Fetcher
from antiphon.guard import Guard
from antiphon.ids import random_id
from antiphon.limits import Background, FetchConfig, Limits, TimeoutsConfig
from antiphon.models.base import NO_ACCESS, ModelRequest
from antiphon.models.catalog import Catalog
from antiphon.stores.blobs import Blobs, LocalBlobs
from antiphon.stores.conversations import Conversations
from antiphon.stores.database import Database
from antiphon.stores.files import Files
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.responses import Responses
from antiphon.stores.runs import Runs
from antiphon.stores.signals import LocalSignals
from antiphon.stores.sqlite import open_sqlite
from antiphon.testing.provider import ScriptedProvider
from antiphon.vectors.base import Block, Document
from antiphon.vectors.readers.refused import Refused
from antiphon.wire.conversations import Conversation
from antiphon.wire.events import Event
from antiphon.wire.responses import CreateResponse, Response

CALLER = Caller(owner="me", access=NO_ACCESS, seed=b"")


class Lines:
    """Reads files that are plain text, and counts them. One that begins with `%broken` cannot be read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    async def parse(self, source: AsyncIterator[bytes], filename: str) -> Document:
        """One block a line."""
        self.read.append(filename)
        content = b"".join([piece async for piece in source])
        if content.startswith(b"%broken"):
            raise Refused("invalid_file", "The file is broken.")
        return Document(blocks=tuple(Block(text=line) for line in content.decode().splitlines()))


class Pages:
    """A transport to a web of a few pages, and whom it was asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[Outgoing] = []

    async def send(self, request: Outgoing) -> Incoming:
        """The page, or a 404."""
        self.asked.append(request)
        found = self.pages.get(request.url)
        return Incoming(404 if found is None else 200, {}, _once(found or b""))

    async def close(self) -> None:
        """Holds nothing."""


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def attachments_of(database: Database, blobs: Blobs, limits: Limits, fetch: FetchConfig | None = None) -> Attachments:
    """Attachments with a reader of plain text and a web of a few pages."""
    fetch = fetch or FetchConfig(bytes_max=1000)
    files = Files(database, blobs, lambda: 1000.0)
    config = AttachmentsConfig(limits=limits, fetch=fetch, template="[{filename}] {text}")
    return Attachments(files, Fetcher(Pages(), Guard(fetch)), Lines(), config=config)


class Bench:
    """An engine to try things on. `provider` says what the model does."""

    def __init__(self, engine: Engine, provider: ScriptedProvider) -> None:
        self.engine = engine
        self.provider = provider

    async def prepared(self, **body: object) -> Run:
        """The run of a request."""
        return await prepare(self.engine, self.create(**body), CALLER)

    def create(self, **body: object) -> CreateResponse:
        """A request body for the scripted model."""
        return msgspec.json.decode(msgspec.json.encode({"model": "host/scripted", **body}), type=CreateResponse)

    async def events(self, **body: object) -> list[Event]:
        """All events of a request, recorded."""
        run = await self.prepared(**body)
        batches = perform(self.engine, run, patience_s=None, shown=True)
        return [event async for batch in batches for event in batch]

    async def response(self, **body: object) -> Response:
        """The response to a request."""
        return (await self.events(**body))[-1].response

    async def conversation(self) -> str:
        """A new conversation's id."""
        made = Conversation(id=random_id("conv"), created_at=1, metadata={})
        await self.engine.conversations.create("me", made)
        return made.id

    def asked(self) -> ModelRequest:
        """The last request that reached the model."""
        return self.provider.requests[-1][0]

    def context(self) -> list[str]:
        """The texts that the model saw last, in order."""
        return ["".join(part.text for part in item.content) for item in self.asked().items]


@pytest.fixture
async def bench(tmp_path: Path) -> Callable[..., Bench]:
    database = open_sqlite(None)
    await migrate(database, migrations())

    def make(*scripts, background: Background | None = None, tools=None, timeouts=None, **limits: int) -> Bench:
        provider = ScriptedProvider(*scripts)
        host = Host(name="host", base_url="http://127.0.0.1:1/v1", list_models=False)
        engine = Engine(
            catalog=Catalog({"host": host}, {"host": provider}),
            responses=Responses(database),
            conversations=Conversations(database),
            runs=Runs(database, "me"),
            signals=LocalSignals(),
            background=background or Background(),
            clock=lambda: 1000.0,
            new_id=random_id,
            sealer=Sealer(b"secret"),
            limits=Limits(**limits),
            attachments=attachments_of(database, LocalBlobs(tmp_path / "files"), Limits(**limits)),
            tools=tools or {},
            timeouts=timeouts or TimeoutsConfig(),
        )
        return Bench(engine, provider)

    yield make
    await database.close()
