"""Every provider obeys the shipped contract."""

from collections.abc import Sequence

from antiphon.config import Host
from antiphon.errors import ApiError, Upstream, UpstreamRejected
from antiphon.models.base import CallArguments, CallStart, Finish, ModelInfo, Text, Tokens
from antiphon.models.chat_completions import ChatCompletions
from antiphon.testing.provider import HANG, Answer, Piece, Script, ScriptedProvider, ScriptedTransport, chunks
from antiphon.testing.provider_suite import ProviderSuite, Scene, Stage

SLOW_DOWN = UpstreamRejected("Slow down.", status=429, retry_after_s=7.0)


class TestScripted(ProviderSuite):
    """The fake is held to the contract too, or tests with it would prove nothing."""

    def stage(self, scene: Scene) -> Stage:
        scripts: dict[Scene, Script | ApiError] = {
            Scene.HELLO: Script([[Text("Hel")], [Text("lo")], [Tokens(3, 2), Finish("stop")]]),
            Scene.CALL: Script(
                [[CallStart(0, "call_1", "weather"), CallArguments(0, '{"city": "Paris"}')], [Finish("calls")]]
            ),
            Scene.SLOW_DOWN: SLOW_DOWN,
            Scene.BROKEN: Script([[Text("Hel")], Upstream("The connection broke.")]),
            Scene.UNFINISHED: Script([[Text("Hel")]]),
            Scene.SILENT: Script([[Text("Hel")], HANG]),
        }
        provider = ScriptedProvider(
            scripts.get(scene, Script([])),
            answers=[SLOW_DOWN if scene is Scene.SLOW_DOWN else b'{"ok": true}'],
            models=[ModelInfo(id="a"), ModelInfo(id="b")],
        )
        return Stage(provider=provider, aborted=lambda: bool(provider.aborted))


def _delta(fields: bytes, finish: bytes = b"null") -> bytes:
    return b'{"choices": [{"index": 0, "delta": {%b}, "finish_reason": %b}]}' % (fields, finish)


HEL = chunks(_delta(b'"role": "assistant", "content": "Hel"'))
USAGE = b'{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}'
CALL = b'"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": "{\\"city\\": "}}]'
MORE = b'"tool_calls": [{"index": 0, "function": {"arguments": "\\"Paris\\"}"}}]'
ANSWERS: dict[Scene, Sequence[Piece]] = {
    Scene.HELLO: [*HEL, *chunks(_delta(b'"content": "lo"'), _delta(b"", b'"stop"'), USAGE, b"[DONE]")],
    Scene.CALL: chunks(_delta(CALL), _delta(MORE), _delta(b"", b'"tool_calls"'), b"[DONE]"),
    Scene.BROKEN: [*HEL, Upstream("The connection broke.")],
    Scene.UNFINISHED: HEL,
    Scene.SILENT: [*HEL, HANG],
    Scene.MODELS: [b'{"object": "list", "data": [{"id": "a"}, {"id": "b"}]}'],
    Scene.POST: [b'{"ok"', b": true}"],
}


class TestChatCompletions(ProviderSuite):
    """The dialect of most hosts."""

    def stage(self, scene: Scene) -> Stage:
        if scene is Scene.SLOW_DOWN:
            body: Sequence[Piece] = [b'{"error": {"message": "Slow down."}}']
            transport = ScriptedTransport(Answer(status=429, headers={"retry-after": "7"}, pieces=body))
        else:
            transport = ScriptedTransport(Answer(pieces=ANSWERS[scene]))
        provider = ChatCompletions(Host(name="scripted", base_url="http://host/v1"), transport)
        return Stage(provider=provider, aborted=lambda: bool(transport.aborted))
