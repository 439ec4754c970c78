"""A recording as the library knows it, whatever format it stands in, and the two formats' ways to load one.

An entry holds the request, which is what look-ups need, and loads the answer when it is asked for: thirteen hundred
files are indexed in a third of a second, and their answers stay on the disk.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from antiphon.presets import PRESETS
from antiphon.replay import canonical, llama_stack, recording, tolerant
from antiphon.replay.recording import Answer

ANTIPHON: Final = "antiphon"
LLAMA_STACK: Final = "llama-stack"
_PORTS: Final = {11434: "ollama", 8000: "vllm", 8080: "llamacpp", 1234: "lmstudio"}
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "::1", "host.docker.internal"})  # noqa: S104 - an address in recordings, never listened on


class Entry(Struct, frozen=True, kw_only=True):
    """One recorded exchange. `key` is the digest that equal requests share; of Llama Stack's, the file's name."""

    format: str
    file: Path
    number: int
    scenario: str
    test_id: str | None
    method: str
    host: str
    base_url: str
    endpoint: str
    model: str | None
    key: str
    raw_body: bytes
    streamed: bool
    load: Callable[[], Answer]
    origin: str | None = None

    @property
    def body(self) -> Any:
        """The request's body, parsed."""
        return msgspec.json.decode(self.raw_body)

    @property
    def place(self) -> str:
        """Where the recording stands, for people."""
        return (
            f"{self.file.name}#{self.number}"
            if self.format == ANTIPHON
            else f"{self.file.parent.name}/{self.file.name}"
        )

    @property
    def tolerant_key(self) -> str | None:
        """What requests that ask the same share."""
        return tolerant.key_of(self.endpoint, self.body)


class Skipped(Struct, frozen=True):
    """A file that answers no request, and why."""

    file: Path
    reason: str


def load_directory(directory: Path) -> tuple[list[Entry], list[Skipped]]:
    """Every recording below `directory`, in the order of file names and then of their position."""
    entries: list[Entry] = []
    skipped: list[Skipped] = []
    for file in sorted(directory.rglob("*.json")):
        if file.name.startswith("."):
            continue
        if llama_stack.FILE_NAME.fullmatch(file.name):
            entry = llama_stack_entry(file)
            if isinstance(entry, Skipped):
                skipped.append(entry)
            else:
                entries.append(entry)
        elif recording.is_scenario(_beginning(file)):
            entries += scenario_entries(file)
        else:
            skipped.append(Skipped(file, "in no known format"))
    return entries, skipped


def scenario_entries(file: Path) -> Iterator[Entry]:
    """The exchanges of one file in our format."""
    scenario = recording.read_scenario(file)
    for number, exchange in enumerate(scenario.exchanges, start=1):
        yield own_entry(exchange, file=file, number=number, scenario=scenario.scenario, test_id=scenario.test_id)


def own_entry(
    exchange: recording.StoredExchange, *, file: Path, number: int, scenario: str, test_id: str | None
) -> Entry:
    """An exchange in our format as an entry."""
    request = exchange.request
    base_url, endpoint = canonical.place_of(request.url)
    return Entry(
        format=ANTIPHON,
        file=file,
        number=number,
        scenario=scenario,
        test_id=test_id,
        method=request.method,
        host=request.host,
        base_url=base_url,
        endpoint=endpoint,
        model=_model(request.body),
        key=canonical.key_of(request),
        raw_body=msgspec.json.encode(request.body),
        streamed=isinstance(request.body, dict) and bool(request.body.get("stream")),
        load=exchange.parsed_answer,
        origin=exchange.origin,
    )


def host_name(base_url: str) -> str:
    """The name that a host would have if it were configured by its preset: told by its address."""
    parts = urlsplit(base_url)
    name = (parts.hostname or "").lower()
    if name in _LOOPBACK:
        return _PORTS.get(parts.port or 0, f"local{parts.port or ''}")
    for preset in PRESETS.values():
        if preset.base_url and urlsplit(preset.base_url).hostname == name:
            return preset.name
    for preset_name in ("azure", "databricks"):
        if preset_name in name or preset_name in parts.path:
            return preset_name
    labels = [label for label in name.split(".") if label not in ("api", "www")]
    return labels[0] if labels else "host"


def llama_stack_entry(file: Path) -> Entry | Skipped:
    """A file in Llama Stack's format as an entry."""
    found = llama_stack.read_file(file)
    call = found.request
    base_url, endpoint = llama_stack.place(call)
    if call.provider != "tavily" and (not call.url or endpoint not in canonical.ENDPOINTS):
        return Skipped(
            file, f"records a call of {call.tool_name or call.endpoint or 'nothing'}, which is never made here"
        )
    match = llama_stack.FILE_NAME.fullmatch(file.name)
    body = call.kwargs if call.provider else llama_stack.http_body(endpoint, msgspec.json.decode(call.body))
    return Entry(
        format=LLAMA_STACK,
        file=file,
        number=1,
        scenario=found.test_id or llama_stack.COMMON,
        test_id=found.test_id,
        method="GET" if endpoint == "/models" else "POST",
        host=host_name(base_url),
        base_url=_reachable(base_url),
        endpoint=endpoint,
        model=_model(body),
        key=match["digest"] if match else "",
        raw_body=msgspec.json.encode(body),
        streamed=found.response.is_streaming,
        load=lambda: llama_stack.answer_from(llama_stack.read_file(file)),
    )


def _reachable(base_url: str) -> str:
    """`0.0.0.0` is where a host listens, not where it is."""
    return base_url.replace("//0.0.0.0", "//127.0.0.1").replace("//localhost", "//127.0.0.1")


def _model(body: Any) -> str | None:
    model = body.get("model") if isinstance(body, dict) else None
    return model if isinstance(model, str) and model else None


def _beginning(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(200)
