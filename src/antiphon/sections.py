"""Sections of the settings that stand by themselves; `config` has the whole."""

from typing import Annotated

from msgspec import Meta, Struct


class JobsConfig(Struct, frozen=True, kw_only=True):
    """Work beside requests: batches, clean-up."""

    clean_every_s: Annotated[float, Meta(gt=0, description="How often what has expired is removed.")] = 300.0
    done_kept_s: Annotated[float, Meta(ge=0, description="How long jobs that are done are remembered.")] = 3600.0
    dead_kept_s: Annotated[float, Meta(ge=0, description="How long jobs that failed for good are kept.")] = 2_592_000.0


class BatchesConfig(Struct, frozen=True, kw_only=True):
    """`/v1/batches`: how much at a time, and how much at all."""

    batches_at_once: Annotated[int, Meta(ge=1, description="Batches in progress in one process.")] = 4
    lines_at_once: Annotated[int, Meta(ge=1, description="Lines of all batches under way in one process.")] = 8
    live_max: Annotated[int, Meta(ge=0, description="Requests of clients under way beyond which lines wait.")] = 8
    lines_at_once_busy: Annotated[int, Meta(ge=0, description="Lines that go on even then, so that batches end.")] = 1
    lines_max: Annotated[int, Meta(ge=1, description="Lines in one input file.")] = 50_000
    input_bytes_max: Annotated[int, Meta(ge=1, description="Size of one input file.")] = 200 * 1024 * 1024
    window_s: Annotated[float, Meta(gt=0, description="How long a batch may take: what `24h` means.")] = 86_400.0
    retry_s: Annotated[float, Meta(gt=0, description="First pause after a busy host; it doubles, seven times.")] = 1.0


class TimeoutsConfig(Struct, frozen=True, kw_only=True):
    """How long a model host may take, and how long a client may stay, in seconds."""

    connect_s: Annotated[float, Meta(gt=0, description="Until a connection stands, retries included.")] = 10.0
    first_byte_s: Annotated[float, Meta(gt=0, description="Until the first byte of an answer.")] = 600.0
    idle_s: Annotated[float, Meta(gt=0, description="Between two pieces of an answer.")] = 300.0
    socket_s: Annotated[float, Meta(gt=0, description="How long a WebSocket may stay open.")] = 3600.0
    ping_s: Annotated[float, Meta(gt=0, description="Between two pings to a WebSocket's client.")] = 20.0
    pong_s: Annotated[float, Meta(gt=0, description="Until a WebSocket's client must have answered a ping.")] = 60.0
    shutdown_s: Annotated[float, Meta(ge=0, description="For running requests when the server stops.")] = 10.0
