"""Asks every model host, and the database, whether it is there: what `antiphon check` and `antiphon models` report."""

import asyncio
import time
from typing import Final, Literal

from msgspec import Struct

from antiphon.config import Config, Host, hosts
from antiphon.egress import LiveTransport
from antiphon.errors import ApiError
from antiphon.models.base import NO_ACCESS, Provider
from antiphon.models.catalog import catalog_of
from antiphon.plugins import sandbox_factory
from antiphon.settings import masked
from antiphon.stores.migrate import migrations, versions
from antiphon.stores.opening import open_database
from antiphon.wire.models import Model

REACH_S: Final = 10.0
"""How long one host may take."""
_HAS_SCHEMA: Final = "SELECT to_regclass('schema_version') IS NOT NULL"


class Reached(Struct, frozen=True, kw_only=True):
    """What became of asking one host. `ABSENT` is no error: nobody named that host, it was only looked for."""

    host: str
    state: Literal["OK", "ERROR", "ABSENT", "NOT ASKED"]
    detail: str

    def __str__(self) -> str:
        return f"{self.state:<9} {self.host}: {self.detail}"


async def reach(config: Config) -> list[Reached]:
    """Asks all hosts side by side for their models."""
    transport = LiveTransport()
    try:
        catalog = catalog_of(config, transport)
        return await asyncio.gather(*(_reach(host, catalog.provider(name)) for name, host in hosts(config).items()))
    finally:
        await transport.close()


async def list_models(config: Config) -> tuple[list[Model], list[str]]:
    """Every model of every host that answers, and what is wrong with the others."""
    transport = LiveTransport()
    try:
        catalog = catalog_of(config, transport)
        await catalog.refresh()
        broken = [entry for entry in await catalog.providers() if entry.health.status == "Error"]
        return await catalog.list(), [f"{entry.provider_id}: {entry.health.message}" for entry in broken]
    finally:
        await transport.close()


async def _reach(host: Host, provider: Provider) -> Reached:
    url = masked(host.base_url)
    missing = "" if host.key or not host.key_needed else " No key is configured: requests must bring one."
    if not host.list_models:
        return Reached(host=host.name, state="NOT ASKED", detail=f"{url} does not list models.{missing}")
    began = time.monotonic()
    try:
        async with asyncio.timeout(REACH_S):
            found = await provider.models(NO_ACCESS)
    except TimeoutError:
        detail = f"{url} did not list its models within {REACH_S:g} s.{missing}"
    except ApiError as error:
        detail = f"{url}: {error.message}{missing}"
    else:
        took_ms = (time.monotonic() - began) * 1000
        models = f"{len(found)} model{'' if len(found) == 1 else 's'}"
        return Reached(host=host.name, state="OK", detail=f"{url}, {models}, {took_ms:.0f} ms.{missing}")
    return Reached(host=host.name, state="ABSENT" if host.probed else "ERROR", detail=detail)


async def reach_sandbox(config: Config) -> Reached:
    """Runs something in the sandbox that is configured, if there is one."""
    named = config.sandbox
    if not named.enabled:
        return Reached(host="sandbox", state="ABSENT", detail="no code is run: 'sandbox.enabled' is not set.")
    try:
        await sandbox_factory(named.kind)(named).check()
    except ApiError as error:
        return Reached(host="sandbox", state="ERROR", detail=error.message)
    return Reached(host="sandbox", state="OK", detail=f"{named.kind}: code is run in it.")


async def reach_database(config: Config) -> Reached:
    """Asks the PostgreSQL of `database_url` what it is, and how far its schema has come."""
    url, began = masked(config.database_url), time.monotonic()
    database = open_database(config)
    steps = migrations(database.dialect)
    try:
        version, there = await database.one("SHOW server_version"), await database.one(_HAS_SCHEMA)
        applied = await versions(database) if there and there[0] else set()
    except ApiError as error:
        return Reached(host="database", state="ERROR", detail=f"{url}: {error.message}")
    finally:
        await database.close()
    missing = sum(step.version not in applied for step in steps)
    schema = f"lacks {missing} of {len(steps)} migrations, which the next start applies" if missing else "is up to date"
    took_ms = (time.monotonic() - began) * 1000
    detail = f"{url}, PostgreSQL {version[0] if version else ''}, schema {schema}, {took_ms:.0f} ms."
    return Reached(host="database", state="OK", detail=detail)
