"""The composition root: settings become services, services an ASGI application, and that a running server."""

import asyncio
import logging
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn
from msgspec.structs import replace
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame, Opcode

from antiphon import config as settings
from antiphon.api.gathering import GatheringTransport, Patience
from antiphon.api.idempotency import Once
from antiphon.api.server import AsgiApp, application, inside
from antiphon.api.services import Services
from antiphon.api.socket import error_frame
from antiphon.api.sse import KeepAlive
from antiphon.api.tasks import Tasks
from antiphon.clock import replay_clock, system_clock
from antiphon.config import Config, ConfigError, HostConfig
from antiphon.egress import LiveTransport
from antiphon.engine import batches, jobs
from antiphon.engine.background import Worker
from antiphon.engine.jobs import Recurring, performing
from antiphon.engine.run import Engine
from antiphon.engine.seal import Sealer
from antiphon.errors import TooLarge
from antiphon.exchange import Transport
from antiphon.ids import random_id, replayable_ids
from antiphon.models.catalog import Catalog, catalog_of
from antiphon.replay.llama_stack import NumberedIds
from antiphon.replay.transport import ReplayOptions, ReplayTransport, open_transport
from antiphon.stores.batches import Batches
from antiphon.stores.blobs import BlobOptions, Blobs, open_blobs
from antiphon.stores.completions import Completions
from antiphon.stores.conversations import Conversations
from antiphon.stores.database import Database
from antiphon.stores.files import LOOSE_S_MAX, Files
from antiphon.stores.idempotency import Idempotency
from antiphon.stores.jobs import Job, Kind
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.opening import open_database, open_jobs, open_signals
from antiphon.stores.responses import Responses
from antiphon.stores.runs import Runs
from antiphon.stores.signals import Signals
from antiphon.stores.workers import Workers
from antiphon.telemetry import Counts, Telemetry, log_request

UNSENT_BYTES_MAX = 128 * 1024
"""What the kernel holds for a client before it says that the client is slow; by itself it would take megabytes."""
log = logging.getLogger("antiphon.app")

Exits = list[Callable[[], None]]

LINGER_S: Final = 10.0
"""How long a WebSocket that is over waits for its client to take what was sent."""
_UNHEARD: Final = logging.Logger("uvicorn.sockets", logging.CRITICAL)  # noqa: LOG001 (one that nobody configures)
"""What uvicorn says of a WebSocket; the line of `telemetry`, and what `api` logs, say more."""


def build(config: Config, exits: Exits | None = None) -> AsgiApp:
    """The application; its lifespan opens and closes what it uses, and says what to call at the first sign of the end.

    That comes before the lifespan's end: open connections are waited for in between.
    """
    return application(lambda: opened(config, [] if exits is None else exits))


def options(config: Config, exits: Exits | None = None) -> uvicorn.Config:
    """How uvicorn serves the application."""
    return uvicorn.Config(
        build(config, exits),
        host=config.host,
        port=config.port,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="on",
        ws=_Sockets,
        ws_max_size=config.limits.body_bytes_max,
        ws_ping_interval=config.timeouts.ping_s,
        ws_ping_timeout=config.timeouts.pong_s,
        ws_per_message_deflate=False,
        http=partial(_Protocol, reader_s=config.timeouts.reader_s),  # type: ignore[arg-type]  # it is only called
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(config.timeouts.shutdown_s),
    )


def serve(config: Config, listens: Callable[[Config], None]) -> int:
    """Listens until it is told to stop; returns the exit code. `listens` is told the port that it has become."""
    exits: Exits = []
    running = _Server(options(config, exits), exits)
    try:
        listening = socket.create_server((config.host, config.port), backlog=2048, family=_family(config.host))
    except OSError as error:
        cause = (error.strerror or "").partition(" (")[0]
        raise ConfigError([f"port: cannot listen on {config.host}, port {config.port}: {cause}."]) from error
    with listening:
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # its connections inherit it
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES_MAX)
        listens(replace(config, port=listening.getsockname()[1]))
        running.run(sockets=[listening])
    return 0 if running.started else 1


class _Server(uvicorn.Server):
    """uvicorn's server, which begins no new work once it is told to stop."""

    def __init__(self, config: uvicorn.Config, exits: Exits) -> None:
        super().__init__(config)
        self._exits = exits

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Hears SIGTERM and SIGINT."""
        super().handle_exit(sig, frame)
        for call in self._exits:
            call()


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP, writing through a transport that gathers, to clients that read."""

    def __init__(self, *given: Any, reader_s: float, **named: Any) -> None:
        super().__init__(*given, **named)
        self._reader_s = reader_s

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Puts the gathering transport in between."""
        self._patience = Patience(transport, self.loop, self._reader_s)
        super().connection_made(GatheringTransport(transport, self.loop))  # type: ignore[arg-type]

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        super().pause_writing()
        self._patience.begin()

    def resume_writing(self) -> None:
        """It does again."""
        self._patience.end()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._patience.end()
        super().connection_lost(exc)


class _Sockets(WebSocketsSansIOProtocol):
    """uvicorn's WebSockets; none stays because its client takes nothing any more, and none is in the log twice."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.logger = self.conn.logger = _UNHEARD

    def keepalive_timeout(self) -> None:
        """Closes at once: what is still to be sent would never leave."""
        super().keepalive_timeout()
        self.transport.abort()

    def on_task_complete(self, task: "asyncio.Task[None]") -> None:
        """Gives the client a while to take the end of what it was sent."""
        super().on_task_complete(task)
        self.loop.call_later(LINGER_S, self.transport.abort)

    def handle_parser_exception(self) -> None:
        """Says why in an error frame before the connection is closed."""
        too_large = self.conn.close_sent is not None and self.conn.close_sent.code == CloseCode.MESSAGE_TOO_BIG
        if too_large and self.handshake_complete and not self.close_sent:
            data = error_frame(
                TooLarge(f"The frame is larger than the {self.config.ws_max_size} bytes that this server accepts."), ""
            )
            self.transport.write(Frame(Opcode.TEXT, data).serialize(mask=False))
        super().handle_parser_exception()


@asynccontextmanager
async def opened(config: Config, exits: Exits) -> AsyncIterator[Services]:
    """Everything the routes use, opened, and closed again in the opposite order.

    What has to happen as soon as the server is told to stop is added to `exits`.
    """
    live = LiveTransport()
    transport = open_transport(_replay_options(config), live)
    config = _with_recorded_hosts(config, transport)
    database = open_database(config)
    signals = open_signals(config, database)
    catalog = catalog_of(config, transport)
    blobs = _blobs(config)
    workers = Workers(database, config.background.lease_s)
    services = services_of(config, catalog, database, blobs=blobs, workers=workers, signals=signals)
    worker = Worker(services.engine, workers)
    exits.append(worker.drain)
    working: asyncio.Task[None] | None = None
    try:
        if await migrate(database, migrations(database.dialect)):
            await services.responses.fail_unfinished(services.clock())
        await services.jobs.open()
        catalog.start()
        await worker.start()
        working = asyncio.create_task(_work(services))
        working.add_done_callback(_told)
        yield services
    finally:
        if working is not None:
            working.cancel()
            await asyncio.wait([working])
        shutdown_s = config.timeouts.shutdown_s
        await asyncio.gather(services.tasks.drain(shutdown_s), worker.close(shutdown_s))
        await catalog.close()
        await transport.close()
        await blobs.close()
        await services.jobs.close()
        await signals.close()
        await database.close()


def services_of(
    config: Config, catalog: Catalog, database: Database, *, blobs: Blobs, workers: Workers, signals: Signals
) -> Services:
    """The services over a catalog and a database. In replay, time stands still and ids derive from requests."""
    replaying = config.mode == "replay"
    clock = replay_clock if replaying else system_clock
    new_id = replayable_ids() if replaying else random_id
    secret = settings.secret(config)
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
        strict=config.strict,
        compaction_prompt=config.compaction_prompt,
    )

    async def missing() -> list[str]:
        await database.one("SELECT 1")
        hosts = await catalog.providers()
        if not hosts:
            return ["no model host is configured"]
        return (
            [] if any(host.health.status != "Error" for host in hosts) else ["no model host answers: see /v1/providers"]
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
        files=Files(database, blobs, clock, workers=workers),
        batches=Batches(database),
        jobs=open_jobs(config, database, workers, signals=signals),
        test_ids=NumberedIds(),
        tasks=Tasks(),
        alive=KeepAlive(config.timeouts.keep_alive_s),
        idempotency=idempotency,
        once=Once(idempotency, signals, secret, bytes_max=config.limits.idempotent_answer_bytes_max),
        ready=missing,
        telemetry=Telemetry(Counts(), log_request),
    )


async def _work(services: Services) -> None:
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
        lanes=batches.Lanes(services.telemetry.live, config.batches),
        ask=inside(services),
        known=services.catalog.resolve,
    )
    kept = config.jobs
    cleaning: dict[str, Callable[[Job], Awaitable[None]]] = {
        batches.SWEEP: partial(batches.sweep, running),
        "clean_files": lambda _: services.files.clean(services.clock() - LOOSE_S_MAX),
        "clean_answers": lambda _: services.idempotency.clean(services.clock()),
        "clean_jobs": lambda _: services.jobs.clean(done_kept_s=kept.done_kept_s, dead_kept_s=kept.dead_kept_s),
    }
    kinds = {name: Kind(perform=performing(clean)) for name, clean in cleaning.items()}
    kinds[batches.KIND] = Kind(
        perform=performing(partial(batches.perform, running)), at_once=config.batches.batches_at_once, attempts_max=20
    )
    await jobs.serve(services.jobs, kinds, [Recurring(kind=name, every_s=kept.clean_every_s) for name in cleaning])


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
    recorded = {each.name: HostConfig(base_url=each.base_url) for each in transport.hosts()}
    return replace(config, hosts=recorded | named)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
