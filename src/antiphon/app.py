"""The composition root: settings become services, services an ASGI application, and that a running server."""

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from msgspec.structs import replace
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from antiphon import config as settings
from antiphon.api.gathering import GatheringTransport
from antiphon.api.server import AsgiApp, application
from antiphon.api.services import Services
from antiphon.api.tasks import Tasks
from antiphon.clock import replay_clock, system_clock
from antiphon.config import Config, ConfigError, HostConfig
from antiphon.egress import LiveTransport
from antiphon.engine.run import Engine
from antiphon.engine.seal import Sealer
from antiphon.exchange import Transport
from antiphon.ids import random_id, replayable_ids
from antiphon.models.catalog import Catalog, catalog_of
from antiphon.replay.llama_stack import NumberedIds
from antiphon.replay.transport import ReplayOptions, ReplayTransport, open_transport
from antiphon.stores.blobs import BlobOptions, Blobs, open_blobs
from antiphon.stores.completions import Completions
from antiphon.stores.conversations import Conversations
from antiphon.stores.database import Database
from antiphon.stores.files import Files
from antiphon.stores.migrate import migrate, migrations
from antiphon.stores.opening import open_database, open_signals
from antiphon.stores.responses import Responses
from antiphon.telemetry import Counts, Telemetry, log_request


def build(config: Config) -> AsgiApp:
    """The application; its lifespan opens and closes what it uses."""
    return application(lambda: opened(config))


def options(config: Config) -> uvicorn.Config:
    """How uvicorn serves the application."""
    return uvicorn.Config(
        build(config),
        host=config.host,
        port=config.port,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="on",
        http=_Protocol,
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(config.timeouts.shutdown_s),
    )


def serve(config: Config, listens: Callable[[Config], None]) -> int:
    """Listens until it is told to stop; returns the exit code. `listens` is told the port that it has become."""
    running = uvicorn.Server(options(config))
    try:
        listening = socket.create_server((config.host, config.port), backlog=2048, family=_family(config.host))
    except OSError as error:
        cause = (error.strerror or "").partition(" (")[0]
        raise ConfigError([f"port: cannot listen on {config.host}, port {config.port}: {cause}."]) from error
    with listening:
        listens(replace(config, port=listening.getsockname()[1]))
        running.run(sockets=[listening])
    return 0 if running.started else 1


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP, writing through a transport that gathers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Puts the gathering transport in between."""
        super().connection_made(GatheringTransport(transport, self.loop))  # type: ignore[arg-type]


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Services]:
    """Everything the routes use, opened, and closed again in the opposite order."""
    live = LiveTransport()
    transport = open_transport(_replay_options(config), live)
    config = _with_recorded_hosts(config, transport)
    database = open_database(config)
    signals = open_signals(config, database)
    catalog = catalog_of(config, transport)
    blobs = _blobs(config)
    services = services_of(config, catalog, database, blobs=blobs)
    try:
        await migrate(database, migrations(database.dialect))
        await services.responses.fail_unfinished(services.clock())
        await services.conversations.release_all()
        # Uploads of an earlier server do not go on: it was the only one.
        services.tasks.start(services.files.clean(services.clock()))
        catalog.start()
        yield services
    finally:
        await services.tasks.drain(config.timeouts.shutdown_s)
        await catalog.close()
        await transport.close()
        await blobs.close()
        await signals.close()
        await database.close()


def services_of(config: Config, catalog: Catalog, database: Database, *, blobs: Blobs) -> Services:
    """The services over a catalog and a database. In replay, time stands still and ids derive from requests."""
    replaying = config.mode == "replay"
    clock = replay_clock if replaying else system_clock
    new_id = replayable_ids() if replaying else random_id
    responses, conversations = Responses(database), Conversations(database)
    engine = Engine(
        catalog=catalog,
        responses=responses,
        conversations=conversations,
        clock=clock,
        new_id=new_id,
        sealer=Sealer(settings.secret(config)),
        limits=config.limits,
        strict=config.strict,
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
        files=Files(database, blobs, clock),
        test_ids=NumberedIds(),
        tasks=Tasks(),
        ready=missing,
        telemetry=Telemetry(Counts(), log_request),
    )


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
