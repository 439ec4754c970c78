"""Names and the models they lead to, with hosts that come and go."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
import pytest

from antiphon.config import Host, ModelConfig, load
from antiphon.errors import InvalidRequest, NotFound, Upstream
from antiphon.exchange import Incoming
from antiphon.models.base import Access, ModelInfo, ModelRequest, ModelStream
from antiphon.models.catalog import Catalog, Waits, catalog_of
from antiphon.testing.host import Host as ScriptedHost

T = TypeVar("T")


class Listing:
    """A provider that only lists models: as told, when told, or not at all."""

    def __init__(self, *models: str | ModelInfo, down: bool = False) -> None:
        self.listed = [each if isinstance(each, ModelInfo) else ModelInfo(id=each) for each in models]
        self.down = down
        self.asked = 0
        self.silent: asyncio.Event | None = None
        self.heard = asyncio.Event()

    async def models(self, access: Access) -> list[ModelInfo]:
        self.asked += 1
        if self.silent is not None:
            await self.silent.wait()
        self.heard.set()
        if self.down:
            raise Upstream("Model host x cannot be reached: Connection refused.")
        return self.listed

    async def open(self, request: ModelRequest, access: Access) -> ModelStream:
        raise AssertionError("the catalog asks no model")

    async def post(self, path: str, body: bytes, access: Access) -> Incoming:
        raise AssertionError("the catalog asks no model")


def catalog(providers: dict[str, Listing], hosts: dict[str, dict[str, Any]] | None = None, **more: Any) -> Catalog:
    known = {name: Host(name=name, base_url=f"http://{name}", **(hosts or {}).get(name, {})) for name in providers}
    return Catalog(known, providers, **more)


@asynccontextmanager
async def started(catalog: Catalog) -> AsyncIterator[Catalog]:
    catalog.start()
    try:
        yield catalog
    finally:
        await catalog.close()


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that does not wait for anything."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise AssertionError("it waits")


async def ids(catalog: Catalog) -> list[str]:
    return [model.id for model in await catalog.list()]


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "host", "model"),
    [
        ("a/one", "a", "one"),
        ("a/meta-llama/Llama-3.1-8B", "a", "meta-llama/Llama-3.1-8B"),
        ("a/never-listed", "a", "never-listed"),
        ("one", "a", "one"),
        ("two", "b", "two"),
        ("meta/deep/two", "b", "meta/deep/two"),
        ("llama3.2", "b", "llama3.2:latest"),
        ("fast", "b", "two"),
        ("deep", "b", "meta/deep/two"),
        ("bare", "a", "one"),
    ],
)
async def test_a_name_leads_to_a_host_and_its_own_name_of_the_model(name: str, host: str, model: str) -> None:
    both = {"a": Listing("one", "meta-llama/Llama-3.1-8B"), "b": Listing("two", "meta/deep/two", "llama3.2:latest")}
    found = await catalog(both, aliases={"fast": "b/two", "deep": "b/meta/deep/two", "bare": "one"}).resolve(name)
    assert (found.host, found.model, found.id) == (host, model, f"{host}/{model}")
    assert found.provider is both[host]


async def test_a_name_that_several_hosts_have_must_say_which() -> None:
    both = catalog({"a": Listing("same"), "b": Listing("same")})
    with pytest.raises(InvalidRequest) as caught:
        await both.resolve("same")
    assert (caught.value.code, caught.value.param) == ("ambiguous_model", "model")
    assert "'a/same', 'b/same'" in caught.value.message
    assert (await both.resolve("b/same")).host == "b"


@pytest.mark.parametrize("name", ["nope", "nope/one", "", "a/", "/one"])
async def test_an_unknown_name_is_told_in_openais_words(name: str) -> None:
    with pytest.raises(NotFound) as caught:
        await catalog({"a": Listing("one")}).resolve(name)
    assert caught.value.message == f"The model '{name}' does not exist or you do not have access to it."
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")


async def test_without_any_host_no_name_is_known() -> None:
    empty = catalog({})
    await empty.refresh()
    with pytest.raises(NotFound):
        await empty.resolve("gpt-4o")
    assert await empty.list_json() == b'{"object":"list","data":[]}'


async def test_the_only_host_is_asked_for_what_it_may_have_while_it_cannot_list() -> None:
    assert (await catalog({"a": Listing(down=True)}).resolve("one")).id == "a/one"
    assert (await catalog({"a": Listing()}, {"a": {"list_models": False}}).resolve("one")).id == "a/one"


async def test_of_several_hosts_that_cannot_list_none_is_guessed_but_the_default_one() -> None:
    def both() -> dict[str, Listing]:
        return {"a": Listing(down=True), "b": Listing("two")}

    with pytest.raises(NotFound):
        await catalog(both()).resolve("one")
    assert (await catalog(both(), default_host="a").resolve("one")).id == "a/one"
    with pytest.raises(NotFound):
        await catalog(both(), default_host="b").resolve("one")


def test_a_host_that_is_gone_has_no_provider() -> None:
    with pytest.raises(NotFound):
        catalog({}).provider("gone")


# ---------------------------------------------------------------- kinds


@pytest.mark.parametrize(
    "model",
    ["text-embedding-3-small", "nomic-embed-text", "BAAI/bge-m3", "intfloat/e5-large", "all-minilm:l6-v2", "hinted"],
)
async def test_an_embedding_model_is_known_by_name_or_hint_and_refused_for_chat(model: str) -> None:
    found = catalog({"a": Listing(ModelInfo(id=model, kind="embedding") if model == "hinted" else model)})
    with pytest.raises(InvalidRequest) as caught:
        await found.resolve(model)
    assert (caught.value.code, caught.value.param) == ("wrong_model_type", "model")
    assert (await found.resolve(model, kind="embedding")).info.kind == "embedding"
    assert (await found.get(model)).model_type == "embedding"


@pytest.mark.parametrize("model", ["gpt-4o", "granite5-8b", "claude5-large", "llama3.2:3b"])
async def test_a_chat_model_is_not_taken_for_an_embedding_model(model: str) -> None:
    found = catalog({"a": Listing(model)})
    assert (await found.resolve(model)).info.kind == "llm"
    assert (await found.get(model)).custom_metadata.embedding_dimension is None


async def test_a_model_configured_for_chat_is_refused_for_embeddings() -> None:
    found = catalog({"a": Listing("one")}, {"a": {"models": {"one": ModelConfig()}}})
    with pytest.raises(InvalidRequest, match="'one' is for chat or completions"):
        await found.resolve("one", kind="embedding")


async def test_the_configuration_knows_better_than_a_name() -> None:
    models = {"embedded-chat": ModelConfig(kind="llm", context_window=4096), "vectors": ModelConfig(kind="embedding")}
    found = catalog({"a": Listing("embedded-chat")}, {"a": {"models": models}})
    assert (await found.resolve("embedded-chat")).info.context_window == 4096
    assert (await found.resolve("vectors", kind="embedding")).info.kind == "embedding"


async def test_a_dimension_comes_from_the_configuration_then_the_preset_then_a_first_call() -> None:
    host = {"models": {"e": ModelConfig(kind="embedding", dimension=7)}, "embeddings": {"text-embedding-3-small": 1536}}
    found = catalog({"a": Listing("text-embedding-3-small", "new-embed")}, {"a": host})
    assert (await found.get("a/e")).custom_metadata.embedding_dimension == 7
    assert (await found.get("a/text-embedding-3-small")).metadata == {"embedding_dimension": 1536}
    assert (await found.get("a/new-embed")).metadata == {}
    found.learn_dimension("a", "new-embed", 12)
    found.learn_dimension("a", "e", 12)
    found.learn_dimension("gone", "e", 12)
    assert (await found.get("a/new-embed")).custom_metadata.embedding_dimension == 12
    assert (await found.get("a/e")).custom_metadata.embedding_dimension == 7


async def test_a_chat_model_that_has_embedded_once_still_chats() -> None:
    found = catalog({"a": Listing("one")})
    assert (await found.resolve("one", kind="embedding")).info.kind == "llm"
    found.learn_dimension("a", "one", 12)
    assert (await found.resolve("one")).model == "one"


# ---------------------------------------------------------------- lists


async def test_the_list_has_every_model_of_every_host_and_the_aliases_that_lead_to_one() -> None:
    both = {"a": Listing("one", "x/y"), "b": Listing("one")}
    found = catalog(both, aliases={"fast": "b/one", "unclear": "one", "lost": "nowhere"})
    assert await ids(found) == ["a/one", "a/x/y", "b/one", "fast"]
    alias = await found.get("fast")
    assert (alias.id, alias.provider_id, alias.provider_resource_id) == ("fast", "b", "one")


async def test_a_model_carries_what_its_host_says_of_it() -> None:
    found = catalog({"a": Listing(ModelInfo(id="one", created=5, owned_by="acme", context_window=8))})
    model = await found.get("a/one")
    assert (model.created, model.owned_by, model.metadata) == (5, "acme", {"context_length": 8})
    assert (await catalog({"a": Listing("one")}).get("one")).owned_by == "a"


async def test_one_model_is_found_only_if_it_is_there() -> None:
    found = catalog({"a": Listing("x/y/z"), "b": Listing(down=True)})
    assert (await found.get("a/x/y/z")).id == "a/x/y/z"
    with pytest.raises(NotFound):
        await found.get("a/nope")
    assert (await found.get("b/perhaps")).id == "b/perhaps"  # it cannot say


async def test_a_prefix_that_a_host_puts_before_its_ids_is_no_part_of_ours() -> None:
    found = catalog({"gemini": Listing("models/gemini-2.5-pro")}, {"gemini": {"listed_prefix": "models/"}})
    assert await ids(found) == ["gemini/gemini-2.5-pro"]


async def test_the_encoded_list_is_made_once_and_again_after_a_change() -> None:
    host = Listing("one")
    found = catalog({"a": host})
    first = await found.list_json()
    assert await found.list_json() is first
    await found.refresh()
    assert await found.list_json() is first
    host.listed.append(ModelInfo(id="two"))
    await found.refresh()
    again = msgspec.json.decode(await found.list_json())
    assert [model["id"] for model in again["data"]] == ["a/one", "a/two"]
    found.learn_dimension("a", "two", 4)
    assert msgspec.json.decode(await found.list_json())["data"][1]["custom_metadata"]["embedding_dimension"] == 4


# ---------------------------------------------------------------- hosts that come and go


async def test_a_host_that_is_down_at_start_appears_when_it_returns() -> None:
    host = Listing("one", down=True)
    async with started(catalog({"a": host, "b": Listing("two")}, waits=Waits(retry_s=(0.001,)))) as found:
        assert await ids(found) == ["b/two"]
        assert (await found.get_provider("a")).health.status == "Error"
        host.down = False
        host.heard.clear()
        await host.heard.wait()
        await found.refresh()
        assert await ids(found) == ["a/one", "b/two"]
        assert (await found.get_provider("a")).health.status == "OK"


async def test_a_host_that_goes_keeps_its_models_listed() -> None:
    host = Listing("one")
    found = catalog({"a": host})
    assert await ids(found) == ["a/one"]
    host.down = True
    await found.refresh()
    assert await ids(found) == ["a/one"]
    entry = await found.get_provider("a")
    assert (entry.health.status, entry.health.message) == (
        "Error",
        "Model host x cannot be reached: Connection refused.",
    )


async def test_a_look_at_a_hosts_health_asks_it_but_not_too_often() -> None:
    host = Listing("one")
    often = catalog({"a": host}, waits=Waits(miss_interval_s=0))
    assert (await often.get_provider("a")).health.status == "OK"
    host.down = True
    assert [entry.health.status for entry in await often.providers()] == ["Error"]
    rarely = catalog({"a": host})
    host.down = False
    for _ in range(3):
        assert (await rarely.get_provider("a")).health.status == "OK"
    assert host.asked == 4


async def test_a_host_that_a_request_finds_down_is_soon_asked_again() -> None:
    host = Listing("one")
    waits = Waits(miss_interval_s=0, retry_s=(0.001,))
    async with started(catalog({"a": host}, waits=waits, refresh_s=600)) as found:
        await found.refresh()
        host.down = True
        assert (await found.get_provider("a")).health.status == "Error"
        host.down = False
        host.heard.clear()
        await host.heard.wait()
        await found.refresh()
        assert (await found.get_provider("a")).health.status == "OK"


async def test_a_silent_host_delays_the_first_requests_only_briefly() -> None:
    silent = Listing("one")
    silent.silent = asyncio.Event()
    async with started(catalog({"a": silent, "b": Listing("two")}, waits=Waits(first_s=0.01))) as found:
        assert await ids(found) == ["b/two"]
        assert at_once(ids(found)) == ["b/two"]
        assert at_once(found.resolve("two")).host == "b"
        assert at_once(found.resolve("a/one")).host == "a"
        health = at_once(found.get_provider("a")).health
        assert (health.status, health.message) == ("Error", "The host has not answered yet.")


async def test_a_request_that_comes_before_the_first_list_waits_for_it() -> None:
    host = Listing("one")
    host.silent = asyncio.Event()
    async with started(catalog({"a": host, "b": Listing("two")})) as found:
        early = [asyncio.ensure_future(found.resolve("one")) for _ in range(3)]
        await asyncio.sleep(0)
        host.silent.set()
        assert [(await each).host for each in early] == ["a", "a", "a"]
        assert host.asked == 1


async def test_an_unknown_name_makes_hosts_that_answer_list_again() -> None:
    host, down = Listing("one"), Listing(down=True)
    found = catalog({"a": host, "b": down}, waits=Waits(miss_interval_s=0))
    await found.refresh()
    host.listed.append(ModelInfo(id="pulled"))
    assert (await found.resolve("pulled")).id == "a/pulled"
    assert (host.asked, down.asked) == (2, 1)


async def test_unknown_names_do_not_make_hosts_list_all_the_time() -> None:
    host = Listing("one")
    found = catalog({"a": host})
    for _ in range(3):
        with pytest.raises(NotFound):
            await found.resolve("nope")
    assert host.asked == 1


async def test_a_host_that_nobody_named_is_shown_once_it_answers() -> None:
    probed = Listing("llama3.2:3b", down=True)
    found = catalog({"openai": Listing(down=True), "ollama": probed}, {"ollama": {"probed": True}})
    assert [entry.provider_id for entry in await found.providers()] == ["openai"]
    with pytest.raises(NotFound):
        await found.get_provider("ollama")
    assert (await found.resolve("gpt-4o")).host == "openai"  # the only host that was named
    probed.down = False
    await found.refresh()
    assert [entry.provider_id for entry in await found.providers()] == ["openai", "ollama"]
    assert await ids(found) == ["ollama/llama3.2:3b"]


async def test_a_host_that_nobody_named_is_hardly_waited_for() -> None:
    silent = Listing("one")
    silent.silent = asyncio.Event()
    hosts = {"ollama": {"probed": True}}
    async with started(catalog({"ollama": silent}, hosts, waits=Waits(first_s=600, probe_s=0.001))) as found:
        assert await ids(found) == []
        assert (await found.providers()) == []


async def test_after_closing_nobody_is_asked() -> None:
    silent = Listing("one")
    silent.silent = asyncio.Event()
    async with started(catalog({"a": silent})):
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


# ---------------------------------------------------------------- providers


async def test_a_provider_shows_its_address_and_hides_its_secrets() -> None:
    host = {"key": "s3cret", "headers": {"x-token": "s3cret"}, "provider_type": "remote::vllm", "list_models": False}
    (entry,) = await catalog({"a": Listing()}, {"a": host}).providers()
    assert (entry.api, entry.provider_id, entry.provider_type) == ("inference", "a", "remote::vllm")
    assert entry.config == {"base_url": "http://a", "api_key": "********", "headers": {"x-token": "********"}}
    assert entry.health.status == "Not Implemented"


async def test_an_unknown_provider_is_not_found() -> None:
    with pytest.raises(NotFound):
        await catalog({"a": Listing()}).get_provider("b")


async def test_a_configuration_becomes_a_catalog_of_real_hosts(host: ScriptedHost) -> None:
    from antiphon.egress import LiveTransport

    transport = LiveTransport()
    environ = {"OPENAI_BASE_URL": host.url, "OPENAI_API_KEY": "sk", "ANTIPHON_ALIASES": '{"fast":"openai/small"}'}
    found = catalog_of(load(None, environ), transport)
    try:
        listed = await ids(found)
        assert listed
        assert all(each.startswith("openai/") or each == "fast" for each in listed)
        assert (await found.resolve("fast")).id == "openai/small"
    finally:
        await found.close()
        await transport.close()


@pytest.mark.parametrize(
    ("listed", "only"),
    [
        ({"a": Listing("one", "my-embed")}, "a/my-embed"),
        ({"a": Listing("one"), "b": Listing(ModelInfo(id="x", kind="embedding"))}, "b/x"),
        ({"a": Listing("one-embed"), "b": Listing("two-embed")}, None),
        ({"a": Listing("one-embed", "two-embed")}, None),
        ({"a": Listing("one")}, None),
        ({}, None),
    ],
)
async def test_the_only_model_of_a_kind_is_known_as_such(listed: dict[str, Listing], only: str | None) -> None:
    found = await catalog(listed).only("embedding")
    assert (found.id if found else None) == only
