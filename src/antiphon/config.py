"""Every setting, defined once, and where its value comes from: a file, over it the environment, over it flags.

A file is TOML or JSON. An environment variable is `ANTIPHON_` and the setting's path in capitals, parts joined by two
underscores: `ANTIPHON_PORT`, `ANTIPHON_HOSTS__OPENAI__BASE_URL`; tables and lists are written as JSON. Any string in
the file may be `env:NAME`: the value of that variable. An unknown key is an error that suggests the nearest one.
Hosts that the environment names by itself (`OPENAI_API_KEY`, `OLLAMA_HOST`, ...) are added to the configured ones.
"""

import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from antiphon.addresses import is_address, is_database, is_loopback
from antiphon.connectors import ConnectorConfig, McpConfig
from antiphon.exchange import Timeouts
from antiphon.guard import Guard
from antiphon.hosted import SandboxConfig
from antiphon.knowledge import FileSearchConfig, VectorStoresConfig
from antiphon.limits import (
    COMPACTION_PROMPT,
    Background,
    BatchesConfig,
    FetchConfig,
    JobsConfig,
    Limits,
    LocalConfig,
    TimeoutsConfig,
)
from antiphon.presets import DEFAULT_QUIRKS, PRESETS, Preset, Quirks
from antiphon.settings import (
    DERIVED,
    PREFIX,
    SECRET,
    Setting,
    build,
    masked,
    overlay,
    read,
    settings_of,
    suggestion,
    variables,
    with_variables,
)
from antiphon.tooling import ImageGenerationConfig, ToolSearchConfig, WebSearchConfig, with_searches, wrong_searches

Mode = Literal["live", "record", "replay", "record-if-missing"]
Kind = Literal["llm", "embedding", "rerank", "image"]
Seconds = Annotated[float, Meta(gt=0)]


class ConfigError(Exception):
    """The configuration is wrong. `problems` name each setting and what it should be."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


# ---------------------------------------------------------------- the settings


class ModelConfig(Struct, frozen=True, kw_only=True):
    """What is known about one model of a host."""

    kind: Annotated[Kind, Meta(description="What the model does.")] = "llm"
    context_window: Annotated[int | None, Meta(description="Tokens that fit into the model's context.")] = None
    dimension: Annotated[int | None, Meta(description="Length of an embedding model's vectors.")] = None


class HostConfig(Struct, frozen=True, kw_only=True):
    """One model host. Only `base_url` is needed, and that only where the preset has no address."""

    preset: Annotated[str, Meta(description="The kind of host; by default the host's own name, or else `custom`.")] = ""
    base_url: Annotated[
        str, Meta(description="Address of the API, `https://api.openai.com/v1`, or a folder, `file:///srv/models`.")
    ] = ""
    key: Annotated[str, Meta(description="The API key; best written as `env:NAME`.", extra=SECRET)] = ""
    headers: Annotated[
        dict[str, str], Meta(description="Headers sent with every request to this host.", extra=SECRET)
    ] = msgspec.field(default_factory=dict)
    models: Annotated[
        dict[str, ModelConfig], Meta(description="Models that the host does not list, or does not describe.")
    ] = msgspec.field(default_factory=dict)
    list_models: Annotated[bool | None, Meta(description="Ask the host for its models; by default as the preset.")] = (
        None
    )
    quirks: Annotated[
        dict[str, Any], Meta(description="Departures from OpenAI's dialect that differ from the preset's.")
    ] = msgspec.field(default_factory=dict)
    dialect: Annotated[
        str, Meta(description="The provider plug-in; by default `local` for a folder, else `chat_completions`.")
    ] = ""
    local: Annotated[LocalConfig, Meta(description="How the models of a folder are run.")] = LocalConfig()
    connect_s: Annotated[Seconds | None, Meta(description="Overrides `timeouts.connect_s`.")] = None
    first_byte_s: Annotated[Seconds | None, Meta(description="Overrides `timeouts.first_byte_s`.")] = None
    idle_s: Annotated[Seconds | None, Meta(description="Overrides `timeouts.idle_s`.")] = None
    origin: Annotated[str, Meta(description="What this host was found by; empty: configured.", extra=DERIVED)] = ""


class Config(Struct, frozen=True, kw_only=True):
    """All settings."""

    host: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0: any free one.")] = 8321
    workers: Annotated[int, Meta(ge=1, le=256, description="Processes that serve the port together.")] = 1
    data_dir: Annotated[
        str, Meta(description="Where state is kept; by default `$XDG_DATA_HOME/antiphon` or `~/.local/share/antiphon`.")
    ] = ""
    database_url: Annotated[
        str,
        Meta(
            description="A PostgreSQL for the state, `postgresql://user:password@host/name` (extra `postgres`);"
            " by default SQLite in `data_dir`."
        ),
    ] = ""
    blobs_url: Annotated[
        str,
        Meta(
            description="Where the bytes of files are kept: `file:///folder`, or"
            " `s3://bucket/prefix?endpoint=https://...&region=...` (extra `s3`); by default `files` in `data_dir`."
        ),
    ] = ""
    blobs_access_key: Annotated[
        str, Meta(description="Access key of the S3 storage; by default what its client finds by itself.", extra=SECRET)
    ] = ""
    blobs_secret_key: Annotated[
        str, Meta(description="Secret key that belongs to it; best written as `env:NAME`.", extra=SECRET)
    ] = ""
    mode: Annotated[Mode, Meta(description="Model traffic: live, recorded, replayed, or recorded where missing.")] = (
        "live"
    )
    recordings: Annotated[
        str,
        Meta(
            description="Directory of recordings; `recordings` in any mode but live. A live server that has one lets"
            " single requests be recorded or replayed, by the header `x-antiphon-mode`."
        ),
    ] = ""
    recordings_format: Annotated[
        Literal["antiphon", "llama-stack"], Meta(description="The format in which recordings are written.")
    ] = "antiphon"
    recordings_match: Annotated[
        Literal["strict", "tolerant"],
        Meta(
            description="Llama Stack's recordings: match their hash, or only model, messages and tools. "
            "Our own are always matched in full."
        ),
    ] = "tolerant"
    replay_speed: Annotated[
        float, Meta(ge=0, description="Replay at this multiple of the recorded speed; 0: without waiting.")
    ] = 0.0
    strict: Annotated[bool, Meta(description="Refuse parameters that would not be obeyed, instead of warning.")] = False
    allow_unauthenticated: Annotated[
        bool, Meta(description="Allow `host` to be reachable from other machines although nobody must log in.")
    ] = False
    hosts: Annotated[dict[str, HostConfig], Meta(description="Model hosts by name.")] = {}
    find_hosts: Annotated[bool, Meta(description="Find model hosts from the environment.")] = True
    default_host: Annotated[
        str, Meta(description="Host that is asked for a bare model name that no host is known to have.")
    ] = ""
    aliases: Annotated[dict[str, str], Meta(description="Other names for models: alias = `host/model`.")] = {}
    limits: Annotated[Limits, Meta(description="How much of everything.")] = Limits()
    fetch: Annotated[FetchConfig, Meta(description="URLs in requests.")] = FetchConfig()
    background: Annotated[Background, Meta(description="Runs that outlive their request.")] = Background()
    timeouts: Annotated[TimeoutsConfig, Meta(description="How long hosts and clients may take.")] = TimeoutsConfig()
    jobs: Annotated[JobsConfig, Meta(description="Work beside requests.")] = JobsConfig()
    batches: Annotated[BatchesConfig, Meta(description="Batches of requests.")] = BatchesConfig()
    vector_stores: Annotated[VectorStoresConfig, Meta(description="Vector stores.")] = VectorStoresConfig()
    file_search: Annotated[FileSearchConfig, Meta(description="The tool `file_search`.")] = FileSearchConfig()
    mcp: Annotated[McpConfig, Meta(description="The tool `mcp`.")] = McpConfig()
    connectors: Annotated[dict[str, ConnectorConfig], Meta(description="MCP servers by name.")] = {}
    web_search: Annotated[WebSearchConfig, Meta(description="The tool `web_search`.")] = WebSearchConfig()
    image_generation: Annotated[ImageGenerationConfig, Meta(description="Images.")] = ImageGenerationConfig()
    tool_search: Annotated[ToolSearchConfig, Meta(description="The tool `tool_search`.")] = ToolSearchConfig()
    sandbox: Annotated[SandboxConfig, Meta(description="Code that models write.")] = SandboxConfig()
    response_patience_s: Annotated[
        float,
        Meta(ge=0, description="How long a response waits for its host's rejection before its stream begins."),
    ] = 5.0
    compaction_prompt: Annotated[
        str, Meta(min_length=1, description="What a model is told that is to summarise a context which has grown long.")
    ] = COMPACTION_PROMPT
    file_template: Annotated[
        str,
        Meta(description="How a file is shown to a model that takes none, with its `{filename}` and its `{text}`."),
    ] = '<file name="{filename}">\n{text}\n</file>'
    idempotency_s: Annotated[
        float, Meta(gt=0, description="How long the answer to a request with an `Idempotency-Key` is kept.")
    ] = 86_400.0
    models_refresh_s: Annotated[float, Meta(gt=0, description="How often hosts are asked for their models.")] = 300.0
    sqlite_sync: Annotated[
        Literal["off", "normal", "full"],
        Meta(description="SQLite's `synchronous`: normal survives a killed process, full also a power cut."),
    ] = "normal"
    secret_key: Annotated[
        str,
        Meta(description="Key of what clients get encrypted; by default a random file in `data_dir`.", extra=SECRET),
    ] = ""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least severe log lines shown.")
    ] = "info"


class Host(Struct, frozen=True, kw_only=True):
    """A model host with preset, overrides and defaults applied: what a provider is built from.

    `probed` hosts were not asked for by anybody; they are shown once they answer.
    """

    name: str
    base_url: str
    dialect: str = "chat_completions"
    provider_type: str = "remote::openai"
    key: str = ""
    key_needed: bool = False
    provider_data_keys: tuple[str, ...] = ()
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    quirks: Quirks = DEFAULT_QUIRKS
    timeouts: Timeouts = Timeouts()
    answer_bytes_max: int = 64 * 1024 * 1024
    models: Mapping[str, ModelConfig] = msgspec.field(default_factory=dict)
    embeddings: Mapping[str, int] = msgspec.field(default_factory=dict)
    list_models: bool = True
    listed_prefix: str = ""
    probed: bool = False
    local: LocalConfig = LocalConfig(threads=1)


# ---------------------------------------------------------------- loading


def load(
    file: Path | None = None, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> Config:
    """The configuration. `flags` are by setting path; those that are None were not given. Raises `ConfigError`."""
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    given = str(file or environ.get(PREFIX + "CONFIG", ""))
    tree = read(Path(given), problems) if given else {}
    tree = with_variables(tree, environ, problems)
    for name, value in variables(environ).items():
        problems += overlay(Config, tree, name.removeprefix(PREFIX).lower().split("__"), value=value, source=name)
    for path, value in (flags or {}).items():
        if value is not None:
            problems += overlay(Config, tree, path.split("."), value=value, source=f"--{path.replace('_', '-')}")
    config = build(Config, tree, "", problems=problems)
    if problems:
        raise ConfigError(problems)
    config = _completed(config, environ)
    problems = list(_wrong(config))
    if problems:
        raise ConfigError(problems)
    return config


def hosts(config: Config) -> dict[str, Host]:
    """Every model host, ready to build a provider from."""
    return {name: _host(config, name, given) for name, given in config.hosts.items()}


def effective(config: Config) -> dict[str, Any]:
    """The whole configuration as plain values, secrets masked."""
    return dict(masked(config))


def settings() -> list[Setting]:
    """Every setting, for the reference."""
    return list(settings_of(Config))


def secret(config: Config) -> bytes:
    """The key for what this server encrypts; made on first use. In replay it is fixed, so that answers repeat."""
    if config.secret_key:
        return config.secret_key.encode()
    if config.mode == "replay":
        return b"a replaying server has no secrets"
    with state_folder(config) as folder:
        path = folder / "secret.key"
        if not path.exists():
            # Whole or not at all: of two servers that start at once, both must read the same key.
            with tempfile.NamedTemporaryFile(dir=folder) as made:
                made.write(secrets.token_bytes(32))
                made.flush()
                with contextlib.suppress(FileExistsError):
                    os.link(made.name, path)
        return path.read_bytes()


@contextlib.contextmanager
def state_folder(config: Config) -> Iterator[Path]:
    """The folder for state, made if it is missing. What cannot be done in it raises `ConfigError`."""
    try:
        folder = Path(config.data_dir)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        raise ConfigError([f"data_dir: {config.data_dir} cannot be used: {error.strerror}."]) from error


# ---------------------------------------------------------------- hosts


def _completed(config: Config, environ: Mapping[str, str]) -> Config:
    """The configuration with hosts from the environment, and with the paths that depend on it."""
    configured = dict(config.hosts)
    if config.find_hosts:
        found = _found(environ)
        configured = {name: _filled(name, given, environ) for name, given in configured.items()}
        for name, host in found.items():
            configured.setdefault(name, host)
        config = msgspec.structs.replace(config, web_search=with_searches(config.web_search, environ))
    base = environ.get("XDG_DATA_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".local" / "share")
    return msgspec.structs.replace(
        config,
        host=config.host.strip("[]"),
        hosts=configured,
        data_dir=config.data_dir or str(Path(base) / "antiphon"),
        recordings=config.recordings or ("" if config.mode == "live" else "recordings"),
    )


def _found(environ: Mapping[str, str]) -> dict[str, HostConfig]:
    """The hosts that variables name, and those that may be listening on their usual address."""
    found = {}
    for preset in PRESETS.values():
        by_url, by_key = _first(preset.url_envs, environ), _first(preset.key_envs, environ)
        if by_url or (by_key and preset.base_url):
            given = HostConfig(origin=by_url or by_key)
            found[preset.name] = _filled(preset.name, given, environ)
        elif preset.probe:
            found[preset.name] = HostConfig(preset=preset.name, base_url=preset.base_url, origin=preset.base_url)
    return found


def _filled(name: str, given: HostConfig, environ: Mapping[str, str]) -> HostConfig:
    """A host with what it does not say taken from the environment.

    A key from the environment goes only to the address that the preset or the environment gives, never to one from a
    file: there, `key` must be written down. An address that is not the preset's own may be any server: it gets the
    quirks of an unknown host, unless the file names the preset.
    """
    if given.preset and given.preset not in PRESETS:
        return given  # `_wrong` says so
    preset = PRESETS[given.preset or (name if name in PRESETS else "custom")]
    by_url, by_key = _first(preset.url_envs, environ), _first(preset.key_envs, environ)
    url = given.base_url or _address(environ.get(by_url, ""), preset) or preset.base_url
    key = given.key
    if not key and by_key and (not given.base_url or not preset.base_url):
        key = environ[by_key]
    foreign = not given.preset and preset.key_needed and bool(preset.base_url) and not _same_place(url, preset.base_url)
    return msgspec.structs.replace(given, preset="custom" if foreign else preset.name, base_url=url, key=key)


def _first(names: tuple[str, ...], environ: Mapping[str, str]) -> str:
    return next((name for name in names if environ.get(name)), "")


def _same_place(url: str, known: str) -> bool:
    """Whether both addresses belong to one company: `eu.api.openai.com` is OpenAI's as well."""
    return (urlsplit(url).hostname or "").endswith(".".join((urlsplit(known).hostname or "").split(".")[-2:]))


def _address(value: str, preset: Preset) -> str:
    """An address as people write it, in full: scheme, port and path may be missing."""
    if not value:
        return ""
    own = urlsplit(preset.base_url)
    if "://" not in value:
        value = f"{'https' if preset.key_needed else 'http'}://{'127.0.0.1' if value.startswith(':') else ''}{value}"
        place = value.partition("://")[2].partition("/")[0]
        if own.port and not re.search(r":\d+$", place):
            value = value.replace(place, f"{place}:{own.port}", 1)
    value = value.replace("//0.0.0.0", "//127.0.0.1", 1).replace("//[::]", "//[::1]", 1).rstrip("/")
    return value if urlsplit(value).path else value + preset.url_suffix


def _host(config: Config, name: str, given: HostConfig) -> Host:
    preset = PRESETS[given.preset or (name if name in PRESETS else "custom")]
    defaults = config.timeouts
    local = given.base_url.startswith("file:")
    threads = given.local.threads or max(1, (os.cpu_count() or 1) // config.workers)
    return Host(
        name=name,
        base_url=_address(given.base_url, preset) or preset.base_url,
        dialect=given.dialect or ("local" if local else "chat_completions"),
        provider_type="inline::sentence-transformers" if local else PRESETS.get(name, preset).provider_type,
        key=given.key,
        key_needed=preset.key_needed,
        provider_data_keys=(*PRESETS.get(name, preset).provider_data_keys, f"{name}_api_key"),
        headers=given.headers,
        quirks=msgspec.convert({**msgspec.to_builtins(preset.quirks), **given.quirks}, Quirks),
        timeouts=Timeouts(
            connect_s=given.connect_s or defaults.connect_s,
            first_byte_s=given.first_byte_s or defaults.first_byte_s,
            idle_s=given.idle_s or defaults.idle_s,
        ),
        answer_bytes_max=config.limits.answer_bytes_max,
        models=given.models,
        embeddings=preset.embeddings,
        list_models=preset.list_models if given.list_models is None else given.list_models,
        listed_prefix=preset.listed_prefix,
        probed=bool(given.origin) and given.origin == preset.base_url,
        local=msgspec.structs.replace(given.local, threads=threads),
    )


# ---------------------------------------------------------------- what types cannot say


def _wrong(config: Config) -> Iterator[str]:
    """Settings that are of the right type and wrong all the same."""
    if not config.allow_unauthenticated and not is_loopback(config.host):
        yield (
            f"host: {config.host} can be reached from other machines, and nobody would have to log in. Listen on"
            " 127.0.0.1, or set `allow_unauthenticated` (--allow-unauthenticated) if the network itself is protected."
        )
    yield from _wrong_state(config)
    try:
        Guard(config.fetch)
    except ValueError as error:
        yield f"fetch.allowed_networks: {error}."
    for name, given in config.hosts.items():
        yield from _wrong_host(f"hosts.{name}", name, given)
    yield from wrong_searches(config.web_search)
    # A replaying server learns of hosts from its recordings as well.
    if config.default_host and config.default_host not in config.hosts and config.mode != "replay":
        yield f"default_host: there is no host {config.default_host!r}.{suggestion(config.default_host, config.hosts)}"
    for alias, target in config.aliases.items():
        if alias == target or target in config.aliases:
            yield f"aliases.{alias}: {target!r} is an alias itself; name a model, as `host/model`."


def _wrong_state(config: Config) -> Iterator[str]:
    if config.workers > 1 and config.recordings:
        what = "recordings belong to one process" if config.mode == "live" else f"mode {config.mode!r} is for one"
        yield f"workers: {config.workers} processes cannot record or replay: {what}; use 1, or no `recordings`."
    if config.database_url and not is_database(config.database_url):
        beginning = config.database_url.partition(":")[0][:20]
        yield f"database_url: expected postgresql://user:password@host/name, got what begins with {beginning!r}."
    if config.blobs_url and not re.match(r"file:///|s3://[^/?]+", config.blobs_url):
        yield f"blobs_url: expected file:///folder or s3://bucket/prefix, got {config.blobs_url.partition('?')[0]!r}."
    if bool(config.blobs_access_key) != bool(config.blobs_secret_key):
        yield "blobs_secret_key: is needed together with blobs_access_key, or neither of them."


def _wrong_host(at: str, name: str, given: HostConfig) -> Iterator[str]:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        yield f"{at}: a host's name has letters, digits, dots, dashes and underscores only."
    if given.preset and given.preset not in PRESETS:
        yield f"{at}.preset: there is no preset {given.preset!r}.{suggestion(given.preset, PRESETS)}"
        return
    preset = PRESETS[given.preset or (name if name in PRESETS else "custom")]
    url = given.base_url or preset.base_url
    if not url:
        yield f"{at}.base_url: is needed, since the preset {preset.name!r} has no address of its own."
    elif not is_address(_address(url, preset)):
        yield f"{at}.base_url: expected an address such as http://127.0.0.1:8000/v1 or file:///folder, got {url!r}."
    known = Quirks.__struct_fields__
    for quirk in given.quirks:
        if quirk not in known:
            yield f"{at}.quirks.{quirk}: there is no such quirk.{suggestion(quirk, known)}"
    problems: list[str] = []
    build(
        Quirks, {key: value for key, value in given.quirks.items() if key in known}, f"{at}.quirks", problems=problems
    )
    yield from problems
