"""The composition root: settings become services, services an ASGI application. `serving` makes a server of it."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from antiphon import config as settings
from antiphon.api.idempotency import Once
from antiphon.api.server import AsgiApp, application, inside
from antiphon.api.services import Services
from antiphon.api.sse import KeepAlive
from antiphon.api.tasks import Tasks
from antiphon.clock import Clock, replay_clock, system_clock
from antiphon.config import Config, ConfigError, HostConfig, ModelConfig
from antiphon.drain import Drain
from antiphon.egress import LiveTransport
from antiphon.engine import batches, jobs
from antiphon.engine.attachments import Attachments, AttachmentsConfig
from antiphon.engine.background import Worker
from antiphon.engine.jobs import Recurring, performing
from antiphon.engine.run import Engine
from antiphon.engine.seal import Sealer
from antiphon.exchange import Timeouts, Transport
from antiphon.fetch import Fetcher
from antiphon.guard import Guard
from antiphon.ids import NewId, random_id, replayable_ids
from antiphon.models.base import Access
from antiphon.models.catalog import Catalog, catalog_of
from antiphon.models.embedding import default_model, embed
from antiphon.models.reranking import rerank
from antiphon.models.tokens import tokenizer
from antiphon.plugins import sandbox_factory
from antiphon.replay.library import RecordedHost
from antiphon.replay.llama_stack import NumberedIds
from antiphon.replay.transport import ReplayOptions, ReplayTransport, open_transport
from antiphon.stores.approvals import Approvals
from antiphon.stores.batches import Batches
from antiphon.stores.blobs import BlobOptions, Blobs, open_blobs
from antiphon.stores.completions import Completions
from antiphon.stores.containers import Containers
from antiphon.stores.contents import LOOSE_S_MAX
from antiphon.stores.conversations import Conversations
from antiphon.stores.database import Database
from antiphon.stores.files import Files
from antiphon.stores.idempotency import Idempotency
from antiphon.stores.jobs import Job, Jobs, Kind
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.opening import open_database, open_jobs, open_signals
from antiphon.stores.responses import Responses
from antiphon.stores.runs import Runs
from antiphon.stores.signals import Signals
from antiphon.stores.tool_groups import ToolGroups
from antiphon.stores.uploads import Uploads
from antiphon.stores.vector_files import VectorFiles
from antiphon.stores.vector_stores import VectorStores
from antiphon.stores.workers import Workers
from antiphon.telemetry import Counts, Telemetry, log_request
from antiphon.tools.base import ServerTool
from antiphon.tools.built_in_groups import RagGroup, WebSearchGroup
from antiphon.tools.code_interpreter import CodeInterpreter
from antiphon.tools.file_search import FileSearch
from antiphon.tools.hosted_shell import HostedShell
from antiphon.tools.hosting import Hosting
from antiphon.tools.image_generation import ImageGeneration
from antiphon.tools.mcp import McpServers
from antiphon.tools.mcp_connectors import Connectors
from antiphon.tools.mcp_sessions import Sessions
from antiphon.tools.rag import Rag
from antiphon.tools.tool_runtime import Servers, ToolRuntime
from antiphon.tools.tool_search import Meanings, ToolSearch
from antiphon.tools.web.pages import Pages
from antiphon.tools.web_search import WebSearch, open_providers
from antiphon.vectors import ingest
from antiphon.vectors.base import Document, Piece, VectorIndex
from antiphon.vectors.chunk import pieces
from antiphon.vectors.ingest import Ingesting
from antiphon.vectors.opening import default_index, open_indexes
from antiphon.vectors.parse import Parser
from antiphon.vectors.search import Embed, Search
from antiphon.wire.chunking import ChunkingStrategyRequestParam, as_cut
from antiphon.wire.tools import WEB_SEARCH

log = logging.getLogger("antiphon.app")


class Reaching(Struct, frozen=True, kw_only=True):
    """What the tools of responses and the tool groups share: both reach out by it."""

    web_search: WebSearch
    groups: ToolGroups
    connectors: Connectors
    sessions: Sessions


class Outside(Struct, frozen=True, kw_only=True):
    """What a process shares with others, and the announcement of its own end.

    `live` is the transport that nothing is recorded of.
    """

    database: Database
    blobs: Blobs
    transport: Transport
    live: Transport
    workers: Workers
    signals: Signals
    indexes: Mapping[str, VectorIndex]
    drain: Drain


def build(config: Config, drain: Drain) -> AsgiApp:
    """The application; its lifespan opens and closes what it uses.

    The end is announced by `drain` before the lifespan ends: open connections are waited for in between.
    """
    return application(lambda: opened(config, drain))


@asynccontextmanager
async def opened(config: Config, drain: Drain) -> AsyncIterator[Services]:
    """Everything the routes use, opened, and closed again in the opposite order.

    At the end, what has not ended by itself when the drain's patience is over is handed to other processes.
    """
    live = LiveTransport(guard=Guard(config.fetch))
    transport = open_transport(_replay_options(config), live)
    config = _with_recorded_hosts(config, transport)
    database = open_database(config)
    signals = open_signals(config, database)
    catalog = catalog_of(config, transport)
    workers = Workers(database, config.background.lease_s)
    indexes = open_indexes(config, database)
    outside = Outside(
        database=database,
        blobs=_blobs(config),
        transport=transport,
        live=live,
        workers=workers,
        signals=signals,
        indexes=indexes,
        drain=drain,
    )
    services = services_of(config, catalog, outside)
    worker = Worker(services.engine, workers)
    drain.listen(worker.drain)
    working: asyncio.Task[None] | None = None
    try:
        await migrate(database, migrations(database.dialect))
        await services.jobs.open()
        catalog.start()
        await worker.start()
        working = asyncio.create_task(_work_until_told(services))
        yield services
    finally:
        drain.begin()
        endings = [services.tasks.drain(drain.left_s()), worker.close(drain.left_s())]
        await asyncio.gather(*endings, *([working] if working is not None else []))
        await worker.leave()
        await services.hosting.close()
        await catalog.close()
        await transport.close()
        await outside.blobs.close()
        await services.jobs.close()
        for index in indexes.values():
            await index.close()
        await signals.close()
        await database.close()


def services_of(config: Config, catalog: Catalog, outside: Outside) -> Services:
    """The services over a catalog and a database. In replay, time stands still and ids derive from requests."""
    clock = _clock(config)
    new_id = replayable_ids() if config.mode == "replay" else random_id
    secret = settings.secret(config)
    database, workers, signals = outside.database, outside.workers, outside.signals
    files = Files(database, outside.blobs, clock, workers=workers)
    containers = Containers(database, outside.blobs, clock, workers=workers)
    hosting = _hosting(config, containers, files, new_id=new_id)
    queue = open_jobs(config, database, workers, signals=signals)
    parser = Parser(config.vector_stores.parsing)
    ingesting = _ingesting(config, catalog, outside, files=files, parser=parser, jobs=queue)
    search = _search(config, catalog, ingesting)
    reaching = _reaching(config, outside, parser)
    rag = Rag(ingesting, search, Fetcher(outside.transport, Guard(config.fetch)), config=config.file_search)
    idempotency = Idempotency(database, workers, clock, kept_s=config.idempotency_s)
    responses, conversations = Responses(database), Conversations(database)
    engine = Engine(
        catalog=catalog,
        responses=responses,
        conversations=conversations,
        runs=Runs(database, workers.id, config.background.journal_s),
        signals=signals,
        background=config.background,
        clock=clock,
        new_id=new_id,
        sealer=Sealer(secret),
        limits=config.limits,
        timeouts=config.timeouts,
        tools=_tools(config, catalog, outside, search=search, reaching=reaching) | _code(hosting),
        attachments=_attachments(config, outside, files, parser=parser),
        strict=config.strict,
        compaction_prompt=config.compaction_prompt,
    )
    return Services(
        config=config,
        clock=clock,
        new_id=new_id,
        catalog=catalog,
        engine=engine,
        responses=responses,
        conversations=conversations,
        completions=Completions(database),
        files=files,
        uploads=Uploads(database, files, clock, limits=config.limits),
        parser=parser,
        containers=containers,
        hosting=hosting,
        batches=Batches(database),
        jobs=queue,
        vector_stores=ingesting.stores,
        vector_files=ingesting.files,
        ingesting=ingesting,
        search=search,
        rag=rag,
        tool_runtime=_tool_runtime(config, reaching, rag),
        test_ids=NumberedIds(),
        tasks=Tasks(),
        drain=outside.drain,
        alive=KeepAlive(config.timeouts.keep_alive_s),
        idempotency=idempotency,
        once=Once(idempotency, signals, secret, bytes_max=config.limits.idempotent_answer_bytes_max),
        ready=partial(_missing, outside, catalog),
        telemetry=Telemetry(Counts(), log_request),
    )


def _reaching(config: Config, outside: Outside, parser: Parser) -> Reaching:
    """What reaches out. What is said to MCP servers is no model traffic: it is neither recorded nor replayed."""
    given, searching, groups = config.timeouts, config.web_search, ToolGroups(outside.database, _clock(config))
    timeouts = Timeouts(connect_s=given.connect_s, first_byte_s=given.tool_s, idle_s=given.idle_s)
    opens = searching.pages if searching.pages is not None else config.fetch.enabled and config.mode == "live"
    fetcher = Fetcher(outside.transport, Guard(config.fetch))
    pages = Pages(fetcher, parser, chars_max=searching.page_chars_max) if opens else None
    providers = open_providers(searching, outside.transport, replaying=config.mode == "replay")
    return Reaching(
        web_search=WebSearch(providers, pages, searching),
        groups=groups,
        connectors=Connectors(config.connectors, groups),
        sessions=Sessions(outside.live, timeouts, config.mcp),
    )


def _tool_runtime(config: Config, reaching: Reaching, rag: Rag) -> ToolRuntime:
    """Tools that are called without a model."""
    return ToolRuntime(
        reaching.groups,
        reaching.connectors,
        (WebSearchGroup(reaching.web_search), RagGroup(rag)),
        servers=Servers(reaching.sessions, config.mcp, call_s=config.timeouts.tool_s),
        guard=Guard(config.fetch),
    )


def _code(hosting: Hosting) -> dict[str, ServerTool]:
    """The tools that run code."""
    return {"code_interpreter": CodeInterpreter(hosting), "shell": HostedShell(hosting)}


def _hosting(config: Config, containers: Containers, files: Files, *, new_id: NewId) -> Hosting:
    """What runs code, or says why it does not."""
    wanted = config.sandbox
    sandbox = sandbox_factory(wanted.kind)(wanted) if wanted.enabled else None
    return Hosting(sandbox, containers, files, config=wanted, clock=_clock(config), new_id=new_id)


def _ingesting(
    config: Config, catalog: Catalog, outside: Outside, *, files: Files, parser: Parser, jobs: Jobs
) -> Ingesting:
    """What brings files into vector stores."""
    database, clock = outside.database, _clock(config)
    return Ingesting(
        stores=VectorStores(database, clock),
        files=VectorFiles(database, clock),
        uploads=files,
        jobs=jobs,
        signals=outside.signals,
        clock=clock,
        config=config.vector_stores,
        indexes=outside.indexes,
        default_index=default_index(config, database),
        read=parser.parse,
        cut=_cut,
        embed=_embed(catalog),
    )


def _attachments(config: Config, outside: Outside, files: Files, *, parser: Parser) -> Attachments:
    """What files and images become that a request names."""
    fetcher = Fetcher(outside.transport, Guard(config.fetch))
    kept = AttachmentsConfig(limits=config.limits, fetch=config.fetch, template=config.file_template)
    return Attachments(files, fetcher, parser, config=kept)


def _clock(config: Config) -> Clock:
    """The time: it stands still in replay."""
    return replay_clock if config.mode == "replay" else system_clock


async def _missing(outside: Outside, catalog: Catalog) -> list[str]:
    """What the server lacks to do its work."""
    if outside.drain.begun:
        return ["the server is stopping"]
    await outside.database.one("SELECT 1")
    hosts = await catalog.providers()
    if not hosts:
        return ["no model host is configured"]
    return [] if any(host.health.status != "Error" for host in hosts) else ["no model host answers: see /v1/providers"]


def _tools(
    config: Config, catalog: Catalog, outside: Outside, *, search: Search, reaching: Reaching
) -> dict[str, ServerTool]:
    """The tools that the server runs, by the `type` of their declaration."""
    mcp = McpServers(
        reaching.sessions,
        Approvals(outside.database, _clock(config)),
        Guard(config.fetch),
        config=config.mcp,
        connectors=reaching.connectors,
    )
    return {
        "file_search": FileSearch(search, config.file_search),
        "mcp": mcp,
        "image_generation": ImageGeneration(catalog, config.image_generation),
        "tool_search": ToolSearch(config.tool_search, _meanings(config, catalog)),
        **dict.fromkeys(WEB_SEARCH, reaching.web_search),
    }


def _meanings(config: Config, catalog: Catalog) -> Meanings | None:
    async def embedded(texts: Sequence[str], access: Access) -> list[bytes] | None:
        model = await default_model(catalog, config.vector_stores.embedding_model)
        return await embed(catalog, model, texts, access=access) if model else None

    return Meanings(embedded) if config.tool_search.by_meaning else None


async def _work_until_told(services: Services) -> None:
    """Works until the end is announced, and lets the lines of batches that are under way then end."""
    lanes = batches.Lanes(services.telemetry.live, services.config.batches)
    work = asyncio.create_task(_work(services, lanes))
    work.add_done_callback(_told)
    await services.drain.announced()
    lanes.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(services.drain.left_s()):
            await lanes.emptied()
    work.cancel()
    await asyncio.wait([work])


async def _work(services: Services, lanes: batches.Lanes) -> None:
    """What this process does beside its requests. A new kind of job, or of clean-up, is one line."""
    config = services.config
    running = batches.Running(
        batches=services.batches,
        files=services.files,
        jobs=services.jobs,
        signals=services.engine.signals,
        clock=services.clock,
        config=config.batches,
        line_bytes_max=config.limits.body_bytes_max,
        lanes=lanes,
        ask=inside(services),
        known=services.catalog.resolve,
    )
    kept = config.jobs
    cleaning: dict[str, Callable[[Job], Awaitable[object]]] = {
        batches.SWEEP: partial(batches.sweep, running),
        ingest.SWEEP: partial(ingest.sweep, services.ingesting),
        "clean_responses": lambda _: services.responses.fail_left_over(services.clock()),
        "clean_files": lambda _: services.files.clean(services.clock() - LOOSE_S_MAX),
        "clean_uploads": lambda _: services.uploads.clean(),
        "clean_containers": lambda _: services.containers.clean(),
        "clean_answers": lambda _: services.idempotency.clean(services.clock()),
        "clean_jobs": lambda _: services.jobs.clean(done_kept_s=kept.done_kept_s, dead_kept_s=kept.dead_kept_s),
    }
    kinds = {name: Kind(perform=performing(clean)) for name, clean in cleaning.items()}
    kinds[batches.KIND] = Kind(
        perform=performing(partial(batches.perform, running)), at_once=config.batches.batches_at_once, attempts_max=20
    )
    kinds[ingest.KIND] = Kind(
        perform=performing(partial(ingest.perform, services.ingesting)),
        at_once=config.vector_stores.ingest_at_once,
        attempts_max=20,
    )
    kinds[ingest.FORGET] = Kind(perform=performing(partial(ingest.forget, services.ingesting)), attempts_max=20)
    await jobs.serve(services.jobs, kinds, [Recurring(kind=name, every_s=kept.clean_every_s) for name in cleaning])


def _cut(document: Document, strategy: ChunkingStrategyRequestParam | None) -> Iterator[Piece]:
    """The pieces of a document. The vocabulary is loaded when the first is asked for, which happens in a thread."""
    yield from pieces(document, as_cut(strategy), tokenizer())


def _embed(catalog: Catalog) -> Embed:
    """Texts into vectors; a model is asked for a length only where its own is known to be another."""

    async def embedded(model: str, texts: Sequence[str], *, dimension: int, access: Access) -> list[bytes]:
        own = (await catalog.resolve(model, access, kind="embedding")).info.dimension
        wanted = dimension if dimension and own and own != dimension else None
        return await embed(catalog, model, texts, access=access, dimensions=wanted)

    return embedded


def _search(config: Config, catalog: Catalog, ingesting: Ingesting) -> Search:
    return Search(
        ingesting.stores,
        ingesting.indexes,
        config.vector_stores.search,
        embed=_embed(catalog),
        rerank=lambda model, query, documents, access: rerank(
            catalog, model, query, documents=documents, access=access
        ),
    )


def _told(working: asyncio.Task[None]) -> None:
    """Work that ended by itself is a fault of ours: the server goes on, and somebody must know."""
    if not working.cancelled() and working.exception() is not None:
        log.critical("jobs are no longer worked on", exc_info=working.exception())


def _blobs(config: Config) -> Blobs:
    """The storage of files' bytes. A replaying server forgets them at its end, as it forgets its database."""
    url = config.blobs_url or f"file://{Path(config.data_dir).absolute() / 'files'}"
    options = BlobOptions(
        url=None if config.mode == "replay" else url,
        access_key=config.blobs_access_key,
        secret_key=config.blobs_secret_key,
        sync=config.sqlite_sync == "full",
    )
    try:
        return open_blobs(options)
    except ImportError as error:
        raise ConfigError(["blobs_url: S3 needs another package: pip install 'antiphon[s3]'."]) from error


def _replay_options(config: Config) -> ReplayOptions:
    return ReplayOptions(
        mode=config.mode,
        directory=Path(config.recordings) if config.recordings else None,
        format=config.recordings_format,
        matching=config.recordings_match,
        speed=config.replay_speed or None,
    )


def _with_recorded_hosts(config: Config, transport: Transport) -> Config:
    """A replaying server without hosts of its own serves those that its recordings know."""
    if config.mode != "replay" or not isinstance(transport, ReplayTransport):
        return config
    named = {name: host for name, host in config.hosts.items() if not host.origin}
    recorded = {each.name: HostConfig(base_url=each.base_url, models=_embedding(each)) for each in transport.hosts()}
    return replace(config, hosts=recorded | named)


def _embedding(recorded: RecordedHost) -> dict[str, ModelConfig]:
    """A recorded host's embedding models: its own list does not say that they are."""
    models = [model for model in recorded.models if model.kind == "embedding"]
    return {model.id: ModelConfig(kind=model.kind, dimension=model.dimension) for model in models}
