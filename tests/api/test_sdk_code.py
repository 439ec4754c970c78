"""The official client has code run: containers and their files, the code interpreter, a shell in a container."""

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from antiphon.testing.host import Call, Host, Reply
from antiphon.testing.server import Server, running, until
from antiphon.tools.sandbox.kernel import KernelSandbox

MODEL = "scripted/scripted-model"
AUTO: Any = {"type": "code_interpreter", "container": {"type": "auto"}}
SHELL: Any = {"type": "shell", "environment": {"type": "container_auto"}}
OUTPUTS: Any = ["code_interpreter_call.outputs"]
SANDBOX = {"enabled": True, "wall_s": 3, "memory_mb": 256, "disk_mb": 16, "open_max": 3}


@pytest.fixture(scope="module")
def coding(
    kernel_sandbox: KernelSandbox, session_host: Host, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that runs code."""
    assert kernel_sandbox
    hosts = {"scripted": {"base_url": session_host.url, "preset": "custom", "quirks": {"files": True}}}
    with running({"hosts": hosts, "sandbox": SANDBOX}, tmp_path_factory.mktemp("coding")) as started:
        yield started


@pytest.fixture
def coder(coding: Server, host: Host) -> Iterator[openai.OpenAI]:
    assert host
    with coding.client() as client:
        yield client


def code(text: str, id: str = "c1") -> Call:
    return Call(name="python", arguments=json.dumps({"code": text}), id=id)


def commands(*texts: str, **more: Any) -> Call:
    return Call(name="shell", arguments=json.dumps({"commands": texts, **more}), id="s1")


def told(host: Host) -> list[str]:
    """What the model was told that its calls gave."""
    return [each["content"] for each in host.calls[-1].json["messages"] if each["role"] == "tool"]


# ---------------------------------------------------------------- the code interpreter


def test_code_is_run_and_its_output_goes_to_the_model_and_to_who_asks(coder: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(calls=[code("print('hi')\n6 * 7")]), Reply(text=["It is 42."]))
    response = coder.responses.create(model=MODEL, input="Compute", tools=[AUTO], include=OUTPUTS)
    call = response.output[0]
    assert call.type == "code_interpreter_call"
    assert (call.status, call.code, call.container_id[:5]) == ("completed", "print('hi')\n6 * 7", "cntr_")
    assert [output.model_dump() for output in call.outputs or ()] == [{"type": "logs", "logs": "hi\n42"}]
    assert response.output_text == "It is 42."
    assert told(host) == ["hi\n42"]
    hidden = coder.responses.retrieve(response.id).output[0]
    assert hidden.type == "code_interpreter_call"
    assert hidden.outputs is None
    shown = coder.responses.retrieve(response.id, include=OUTPUTS).output[0]
    assert shown == call


def test_a_stream_has_the_events_of_openai_in_their_order(coding: Server, host: Host) -> None:
    host.answer(Reply(calls=[code("1 + 1")]), Reply(text=["Two."]))
    stream = coding.stream(input="Compute", tools=[AUTO])
    kinds = [event["type"].removeprefix("response.") for event in stream.events]
    assert kinds[2:9] == [
        "output_item.added",
        "code_interpreter_call.in_progress",
        "code_interpreter_call_code.delta",
        "code_interpreter_call_code.done",
        "code_interpreter_call.interpreting",
        "code_interpreter_call.completed",
        "output_item.done",
    ]
    assert (stream.events[2]["item"]["code"], stream.events[8]["item"]["code"]) == ("", "1 + 1")
    assert "memory" not in json.dumps(stream.events)


def test_the_next_turn_finds_the_container_and_what_was_defined(coder: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(calls=[code("x = 20"), code("x += 1", "c2")]), Reply(calls=[code("x *= 2")]), Reply(text=["ok"]))
    first = coder.responses.create(model=MODEL, input="Keep x", tools=[AUTO])
    host.answer(Reply(calls=[code("x")]), Reply(text=["42"]))
    second = coder.responses.create(model=MODEL, input="x?", tools=[AUTO], previous_response_id=first.id)
    containers = {item.container_id for item in [*first.output, *second.output] if item.type == "code_interpreter_call"}
    assert len(containers) == 1
    assert told(host)[-1] == "42"
    assert [message["role"] for message in host.calls[-1].json["messages"]].count("tool") == 4


@pytest.mark.parametrize("arguments", ["40 + 2", '"40 + 2"', '{"code": "40 + 2"}'])
def test_bare_code_is_taken_as_code(coder: openai.OpenAI, host: Host, arguments: str) -> None:
    host.answer(Reply(calls=[Call(name="python", arguments=arguments, id="c")]), Reply(text=["ok"]))
    coder.responses.create(model=MODEL, input="Compute", tools=[AUTO])
    assert told(host) == ["42"]
    sent = host.calls[-1].json["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent) == {"code": "40 + 2"}


@pytest.mark.parametrize(
    ("text", "status", "says"),
    [
        ("1 / 0", "completed", "ZeroDivisionError"),
        ("import time; time.sleep(60)", "failed", "it took longer than is allowed"),
        ("import os; os._exit(1)", "failed", "what was defined is gone"),
        ("", "failed", "`code` is needed"),
    ],
)
def test_what_goes_wrong_is_told_to_the_model(
    coder: openai.OpenAI, host: Host, text: str, status: str, says: str
) -> None:
    host.answer(Reply(calls=[code(text)]), Reply(text=["Sorry."]))
    response = coder.responses.create(model=MODEL, input="Compute", tools=[AUTO], include=OUTPUTS)
    call = response.output[0]
    assert call.type == "code_interpreter_call"
    assert (response.status, call.status) == ("completed", status)
    assert says in told(host)[0]


def test_figures_are_shown_as_images(coder: openai.OpenAI, host: Host) -> None:
    png = base64.b64encode(b"\x89PNG\r\n\x1a\n-").decode()
    drawn = f"""
import base64, sys, types
class Figure:
    def savefig(self, file, **options): file.write(base64.b64decode({png!r}))
pyplot = types.ModuleType("matplotlib.pyplot")
pyplot.get_fignums, pyplot.figure, pyplot.close = (lambda: [1]), (lambda number: Figure()), (lambda which: None)
sys.modules["matplotlib.pyplot"] = pyplot
"""
    host.answer(Reply(calls=[code(drawn)]), Reply(text=["Look."]))
    response = coder.responses.create(model=MODEL, input="Draw", tools=[AUTO], include=OUTPUTS)
    call = response.output[0]
    assert call.type == "code_interpreter_call"
    assert [output.model_dump() for output in call.outputs or ()] == [
        {"type": "image", "url": f"data:image/png;base64,{png}"}
    ]
    assert told(host) == ["[1 image shown to the user]"]


def test_files_that_code_writes_are_kept_and_cited_where_the_answer_names_them(
    coder: openai.OpenAI, host: Host
) -> None:
    host.answer(
        Reply(calls=[code("open('report.csv', 'w').write('a,b\\n1,2\\n'); open('b.txt', 'w').write('b'); None")]),
        Reply(text=["Here: [report", ".csv](sandbox:/mnt/data/rep", "ort.csv) and b.txt", "."]),
    )
    response = coder.responses.create(model=MODEL, input="Write", tools=[AUTO])
    call, message = response.output
    assert call.type == "code_interpreter_call"
    assert message.type == "message"
    part = message.content[0]
    assert part.type == "output_text"
    assert part.text == "Here: [report.csv](sandbox:/mnt/data/report.csv) and b.txt."
    assert [
        (each.filename, part.text[each.start_index : each.end_index], each.container_id == call.container_id)
        for each in part.annotations
        if each.type == "container_file_citation"
    ] == [
        ("report.csv", "report.csv", True),
        ("report.csv", "sandbox:/mnt/data/report.csv", True),
        ("b.txt", "b.txt", True),
    ]
    cited = part.annotations[1]
    assert cited.type == "container_file_citation"
    content = coder.containers.files.content.retrieve(cited.file_id, container_id=cited.container_id)
    assert content.read() == b"a,b\n1,2\n"
    files = coder.containers.files.list(call.container_id).data
    assert {(file.path, file.source, file.bytes) for file in files} == {
        ("/mnt/data/report.csv", "assistant", 8),
        ("/mnt/data/b.txt", "assistant", 1),
    }
    assert "[Files written: /mnt/data/b.txt (1 bytes), /mnt/data/report.csv (8 bytes)]" in told(host)[0]
    host.answer(Reply(text=["Again: /mnt/data/report.csv"]))
    again = coder.responses.create(model=MODEL, input="Where?", tools=[AUTO], previous_response_id=response.id)
    said = again.output[0]
    assert said.type == "message"
    assert [each.type for each in said.content[0].annotations] == ["container_file_citation"]  # type: ignore[union-attr]


def test_uploaded_files_are_there_and_what_changes_changes(coder: openai.OpenAI, host: Host) -> None:
    file = coder.files.create(file=("in.txt", b"one\ntwo\n"), purpose="user_data")
    tool: Any = {"type": "code_interpreter", "container": {"type": "auto", "file_ids": [file.id]}}
    host.answer(Reply(calls=[code("open('/mnt/data/in.txt').read()")]), Reply(text=["ok"]))
    first = coder.responses.create(model=MODEL, input="Read", tools=[tool])
    assert told(host) == ["'one\\ntwo\\n'"]
    host.answer(Reply(calls=[code("import os; os.remove('in.txt'); open('out.txt', 'w').write('x')")]), Reply())
    second = coder.responses.create(model=MODEL, input="Go on", tools=[AUTO], previous_response_id=first.id)
    call = second.output[0]
    assert call.type == "code_interpreter_call"
    assert [each.path for each in coder.containers.files.list(call.container_id)] == ["/mnt/data/out.txt"]


def test_calls_of_one_turn_in_one_container_come_one_after_the_other(coder: openai.OpenAI, host: Host) -> None:
    steps = [code("n = globals().get('n', 0) + 1; n", f"c{index}") for index in range(3)]
    host.answer(Reply(calls=steps), Reply(text=["ok"]))
    coder.responses.create(model=MODEL, input="Count", tools=[AUTO])
    assert sorted(told(host)) == ["1", "2", "3"]


def test_cancelling_ends_the_code(coder: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(calls=[code("import time; time.sleep(2.5)")]), Reply(text=["never"]))
    begun = coder.responses.create(model=MODEL, input="Sleep", tools=[AUTO], background=True)
    until(lambda: host.calls)
    coder.responses.cancel(begun.id)
    ended = until(lambda: coder.responses.retrieve(begun.id), lambda seen: seen.status == "cancelled")
    assert [item.status for item in ended.output if item.type == "code_interpreter_call"] in ([], ["incomplete"])


# ---------------------------------------------------------------- the shell


def test_shell_commands_are_run_and_their_outputs_follow(coder: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(calls=[commands("echo a > f.txt; cat f.txt", "ls missing", "exit 3")]), Reply(text=["See f.txt"]))
    response = coder.responses.create(model=MODEL, input="Run", tools=[SHELL])
    call, output, message = response.output
    assert call.type == "shell_call"
    assert output.type == "shell_call_output"
    assert call.environment is not None
    assert call.environment.type == "container_reference"
    assert [(each.stdout, each.outcome.type) for each in output.output] == [("a\n", "exit"), ("", "exit"), ("", "exit")]
    assert [each.outcome.exit_code for each in output.output if each.outcome.type == "exit"] == [0, 2, 3]
    assert output.call_id == call.call_id
    assert json.loads(told(host)[0])[0]["stdout"] == "a\n"
    assert message.type == "message"
    assert [each.type for each in message.content[0].annotations] == ["container_file_citation"]  # type: ignore[union-attr]
    host.answer(Reply(calls=[commands("cat f.txt")]), Reply(text=["ok"]))
    coder.responses.create(model=MODEL, input="Again", tools=[SHELL], previous_response_id=response.id)
    assert json.loads(told(host)[-1])[0]["stdout"] == "a\n"


def test_a_streamed_shell_call_has_the_events_of_openai(coding: Server, host: Host) -> None:
    host.answer(Reply(calls=[commands("echo a; echo b >&2")]), Reply(text=["ok"]))
    stream = coding.stream(input="Run", tools=[SHELL])
    kinds = [event["type"].removeprefix("response.") for event in stream.events]
    assert kinds[2:11] == [
        "output_item.added",
        "shell_call_command.added",
        "shell_call_command.delta",
        "shell_call_command.done",
        "output_item.done",
        "output_item.added",
        "shell_call_output_content.delta",
        "shell_call_output_content.done",
        "output_item.done",
    ]
    assert stream.events[8]["delta"] == {"stdout": "a\n", "stderr": "b\n"}


@pytest.mark.parametrize(
    ("call", "outcome"),
    [
        (commands("sleep 60", timeout_ms=200), {"type": "timeout"}),
        (commands("echo 123456789", max_output_length=4), {"type": "exit", "exit_code": 0}),
        (Call(name="shell", arguments='{"command": 1}', id="s"), {"type": "exit", "exit_code": 1}),
    ],
)
def test_a_shell_keeps_its_limits(coder: openai.OpenAI, host: Host, call: Call, outcome: dict[str, Any]) -> None:
    host.answer(Reply(calls=[call]), Reply(text=["ok"]))
    response = coder.responses.create(model=MODEL, input="Run", tools=[SHELL])
    output = response.output[1]
    assert output.type == "shell_call_output"
    assert output.output[0].outcome.model_dump() == outcome
    assert len(output.output[0].stdout) <= 4
    host.answer(Reply(text=["ok"]))
    assert coder.responses.create(model=MODEL, input="And?", previous_response_id=response.id).status == "completed"


def test_a_local_shell_stays_with_the_client(coder: openai.OpenAI, host: Host) -> None:
    host.answer(Reply(calls=[commands("ls")]))
    local: Any = {"type": "shell", "environment": {"type": "local"}}
    response = coder.responses.create(model=MODEL, input="Run", tools=[local])
    assert [item.type for item in response.output] == ["shell_call"]


# ---------------------------------------------------------------- containers


def test_a_container_is_made_filled_used_and_deleted(coder: openai.OpenAI, host: Host) -> None:
    file = coder.files.create(file=("given.txt", b"given"), purpose="user_data")
    container = coder.containers.create(
        name="mine", file_ids=[file.id], expires_after={"anchor": "last_active_at", "minutes": 5}, memory_limit="1g"
    )
    assert (container.object, container.status, container.name) == ("container", "running", "mine")
    put = coder.containers.files.create(container.id, file=("put.bin", bytes(range(256)) * 5000))
    copied = coder.containers.files.create(container.id, file_id=file.id)
    assert (put.path, put.bytes, put.source) == ("/mnt/data/put.bin", 1_280_000, "user")
    assert copied.path == "/mnt/data/given.txt"
    host.answer(Reply(calls=[code("import os; [(n, os.path.getsize(n)) for n in sorted(os.listdir())]")]), Reply())
    tool: Any = {"type": "code_interpreter", "container": container.id}
    coder.responses.create(model=MODEL, input="List", tools=[tool])
    assert told(host) == ["[('given.txt', 5), ('put.bin', 1280000)]"]
    found = coder.containers.files.retrieve(put.id, container_id=container.id)
    assert found.model_dump() == put.model_dump()
    assert coder.containers.files.content.retrieve(put.id, container_id=container.id).read() == bytes(range(256)) * 5000
    coder.containers.files.delete(put.id, container_id=container.id)
    assert [each.path for each in coder.containers.files.list(container.id)] == ["/mnt/data/given.txt"]
    host.answer(Reply(calls=[code("os.listdir()")]), Reply())
    coder.responses.create(model=MODEL, input="List", tools=[tool])
    assert told(host) == ["['given.txt']"]
    assert container.id in {each.id for each in coder.containers.list(name="mine")}
    assert list(coder.containers.list(name="other")) == []
    coder.containers.delete(container.id)
    with pytest.raises(openai.NotFoundError):
        coder.containers.retrieve(container.id)
    with pytest.raises(openai.NotFoundError):
        coder.responses.create(model=MODEL, input="List", tools=[tool])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": "a", "memory_limit": "64g"}, "memory_limit"),
        ({"name": "a", "network_policy": {"type": "allowlist", "allowed_domains": ["a.com"]}}, "network_policy"),
        ({"name": "a", "skills": [{"type": "skill_reference", "skill_id": "s"}]}, "skills"),
        ({"name": ""}, "name"),
        ({"name": "a", "expires_after": {"anchor": "created_at", "minutes": 1}}, "expires_after.anchor"),
    ],
)
def test_what_a_container_cannot_have_is_refused(coding: Server, body: dict[str, Any], param: str) -> None:
    got = coding.post("/containers", body)
    assert (got.status, got.json["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("tool", "param", "status"),
    [
        ({"type": "code_interpreter", "container": "cntr_no"}, None, 404),
        ({"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-no"]}}, "file_ids[0]", 404),
        ({"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "64g"}}, "memory_limit", 400),
        ({"type": "shell", "environment": {"type": "container_reference", "container_id": "cntr_no"}}, None, 404),
        ({"type": "shell", "environment": {"type": "vm"}}, "environment", 400),
    ],
)
def test_what_a_tool_names_and_is_not_there_is_the_clients_error(
    coding: Server, tool: dict[str, Any], param: str | None, status: int
) -> None:
    got = coding.post("/responses", {"model": MODEL, "input": "x", "tools": [tool]})
    assert got.status == status, got.body
    assert param is None or param in got.json["error"]["param"]


def test_without_a_sandbox_the_tools_are_refused_by_name(host: Host, tmp_path: Path) -> None:
    hosts = {"scripted": {"base_url": host.url, "preset": "custom"}}
    with running({"hosts": hosts}, tmp_path) as server:
        for tool, param in ((AUTO, "tools[0].type"), (SHELL, "tools[0].environment")):
            got = server.post("/responses", {"model": MODEL, "input": "x", "tools": [tool]})
            assert (got.status, got.json["error"]["code"]) == (400, "unsupported_tool")
            assert got.json["error"]["param"] == param
            assert "'sandbox.enabled' is not set" in got.json["error"]["message"]
        assert server.post("/containers", {"name": "a"}).status == 400


def test_a_container_outlives_its_process_and_the_next_call_says_what_is_lost(
    kernel_sandbox: KernelSandbox, host: Host, tmp_path: Path
) -> None:
    assert kernel_sandbox
    hosts = {"scripted": {"base_url": host.url, "preset": "custom"}}
    ids: list[str] = []
    for text in ("x = 1; open('kept.txt', 'w').write('kept'); None", "open('kept.txt').read()"):
        with ExitStack() as stack:
            server = stack.enter_context(running({"hosts": hosts, "sandbox": SANDBOX}, tmp_path))
            client = stack.enter_context(server.client())
            host.answer(Reply(calls=[code(text)]), Reply(text=["ok"]))
            more: Any = {"previous_response_id": ids[-1]} if ids else {}
            ids.append(client.responses.create(model=MODEL, input="x", tools=[AUTO], **more).id)
    assert told(host)[-1] == (
        "The interpreter is a new one: what earlier calls defined is gone. The files in /mnt/data are there.\n'kept'"
    )
