"""What every provider must do, as tests: derive from `ProviderSuite`, say how to stage a scene, and run pytest.

    class TestMine(ProviderSuite):
        def stage(self, scene: Scene) -> Stage:
            host = MyFakeHost(scene)
            return Stage(provider=MyProvider(host), aborted=lambda: host.aborted)

The tests are coroutines: pytest-asyncio in its automatic mode runs them.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from enum import Enum

import msgspec
from msgspec import Struct

from antiphon.errors import ApiError, Upstream, UpstreamRejected
from antiphon.models.base import (
    NO_ACCESS,
    CallArguments,
    CallStart,
    Finish,
    ModelEvent,
    ModelRequest,
    ModelStream,
    Provider,
    Text,
    Tokens,
)
from antiphon.wire.items import Message

REQUEST = ModelRequest(model="m", items=[Message(role="user", content="Say hello.")])


class Scene(Enum):
    """What the host behind the provider does."""

    HELLO = "says 'Hel', then 'lo'; stops; counts 3 tokens of input and 2 of output"
    CALL = """calls `weather` with {"city": "Paris"}, id `call_1`"""
    SLOW_DOWN = "answers 429 with `Retry-After: 7` and the message 'Slow down.'"
    BROKEN = "says 'Hel'; then the connection breaks"
    UNFINISHED = "says 'Hel'; then the answer ends without a finish reason"
    SILENT = "says 'Hel'; then nothing, for ever"
    MODELS = "lists the models `a` and `b`"
    POST = """answers a post with the JSON object {"ok": true}"""


class Stage(Struct, frozen=True, kw_only=True):
    """A provider in a scene, and whether its host has seen a call being given up."""

    provider: Provider
    aborted: Callable[[], bool]


class ProviderSuite(ABC):
    """The contract of `models.base.Provider`."""

    @abstractmethod
    def stage(self, scene: Scene) -> Stage:
        """A new provider whose host plays this scene."""

    async def test_text_comes_in_order_and_finish_comes_last_and_once(self) -> None:
        """What a plain answer looks like."""
        events = await _all(await self.stage(Scene.HELLO).provider.open(REQUEST, NO_ACCESS))
        assert "".join(event.text for event in events if isinstance(event, Text)) == "Hello"
        assert [event for event in events if isinstance(event, Finish)] == [Finish("stop")]
        assert events[-1] == Finish("stop")

    async def test_tokens_are_reported_before_the_finish(self) -> None:
        """The host's count arrives."""
        events = await _all(await self.stage(Scene.HELLO).provider.open(REQUEST, NO_ACCESS))
        assert [event for event in events if isinstance(event, Tokens)][-1:] == [Tokens(input=3, output=2)]

    async def test_no_batch_is_empty(self) -> None:
        """A batch is a reason to write."""
        stream = await self.stage(Scene.HELLO).provider.open(REQUEST, NO_ACCESS)
        assert all([bool(batch) async for batch in stream])
        await stream.aclose()

    async def test_a_call_begins_before_its_arguments_and_finishes_as_calls(self) -> None:
        """What a function call looks like."""
        events = await _all(await self.stage(Scene.CALL).provider.open(REQUEST, NO_ACCESS))
        kinds = [type(event) for event in events if isinstance(event, (CallStart, CallArguments))]
        arguments = "".join(event.text for event in events if isinstance(event, CallArguments))
        assert kinds[0] is CallStart
        assert kinds.count(CallStart) == 1
        assert next(event for event in events if isinstance(event, CallStart)) == CallStart(0, "call_1", "weather")
        assert msgspec.json.decode(arguments) == {"city": "Paris"}
        assert events[-1] == Finish("calls")

    async def test_a_rejection_is_raised_by_open_with_status_message_and_wait(self) -> None:
        """Nothing has begun yet, so the client can still be told by status."""
        error = await _raised(self.stage(Scene.SLOW_DOWN).provider.open(REQUEST, NO_ACCESS))
        assert isinstance(error, UpstreamRejected)
        assert (error.status, error.message, error.retry_after_s) == (429, "Slow down.", 7.0)

    async def test_a_broken_connection_is_an_upstream_error_after_the_text_that_came(self) -> None:
        """What was said is not lost."""
        assert await self._text_before_failure(Scene.BROKEN) == "Hel"

    async def test_an_answer_without_a_finish_reason_is_an_upstream_error(self) -> None:
        """A cut answer must not pass for a whole one."""
        assert await self._text_before_failure(Scene.UNFINISHED) == "Hel"

    async def test_closing_a_silent_answer_aborts_it_at_the_host_and_may_be_repeated(self) -> None:
        """A client that goes away costs no more tokens."""
        stage = self.stage(Scene.SILENT)
        stream = await stage.provider.open(REQUEST, NO_ACCESS)
        batches = aiter(stream)
        assert await anext(batches) == [Text("Hel")]
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await stream.aclose()
        await stream.aclose()
        assert waiting.cancelled()
        assert stage.aborted()

    async def test_an_answer_may_be_closed_before_it_is_read(self) -> None:
        """A client may be gone by the time the host has accepted the call."""
        stage = self.stage(Scene.SILENT)
        stream = await stage.provider.open(REQUEST, NO_ACCESS)
        await stream.aclose()
        assert stage.aborted()

    async def test_models_are_listed_by_the_hosts_own_names(self) -> None:
        """In the host's order."""
        models = await self.stage(Scene.MODELS).provider.models(NO_ACCESS)
        assert [model.id for model in models] == ["a", "b"]

    async def test_post_gives_the_hosts_answer_through(self) -> None:
        """Whole or streamed, as bytes."""
        incoming = await self.stage(Scene.POST).provider.post("/embeddings", b"{}", NO_ACCESS)
        assert incoming.status == 200
        assert msgspec.json.decode(await incoming.read()) == {"ok": True}

    async def test_post_raises_a_rejection_with_status_message_and_wait(self) -> None:
        """The same as `open`."""
        error = await _raised(self.stage(Scene.SLOW_DOWN).provider.post("/embeddings", b"{}", NO_ACCESS))
        assert isinstance(error, UpstreamRejected)
        assert (error.status, error.message, error.retry_after_s) == (429, "Slow down.", 7.0)

    async def _text_before_failure(self, scene: Scene) -> str:
        stream = await self.stage(scene).provider.open(REQUEST, NO_ACCESS)
        said = ""
        try:
            async for batch in stream:
                said += "".join(event.text for event in batch if isinstance(event, Text))
                assert not any(isinstance(event, Finish) for event in batch), "a broken answer has no finish"
        except Upstream:
            return said
        finally:
            await stream.aclose()
        raise AssertionError("the stream ended as if it were whole")


async def _all(stream: ModelStream) -> list[ModelEvent]:
    try:
        return [event async for batch in stream for event in batch]
    finally:
        await stream.aclose()


async def _raised(call: Awaitable[object]) -> ApiError:
    try:
        await call
    except ApiError as error:
        return error
    raise AssertionError("the rejection was not raised")
