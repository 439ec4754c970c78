"""`antiphon recordings ...`: what each command prints, changes and returns."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from antiphon.exchange import Outgoing
from antiphon.replay import canonical
from antiphon.replay.commands import add_commands
from antiphon.replay.library import Library
from antiphon.replay.recording import Answer, Exchange, Frame, Request, Scenario, read_scenario, write_scenario
from antiphon.replay.verify import Verdict, by_path, verify

SECRET = "sk-proj-abcDEF1234567890abcdef"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command as the terminal would: exit code and lines."""

    def command(*words: object) -> tuple[int, str]:
        parser = argparse.ArgumentParser()
        add_commands(parser.add_subparsers(required=True))
        args = parser.parse_args(["recordings", *map(str, words)])
        code, printed = args.run(args), capsys.readouterr()
        return code, printed.err if code == 2 else printed.out

    return command


def exchange(text: str = "hi", *, origin: str | None = None, answer: str = "hello", **body: Any) -> Exchange:
    """An exchange with a host named `local`."""
    outgoing = Outgoing(
        method="POST",
        url="http://127.0.0.1:9/v1/chat/completions",
        headers={},
        body=json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **body}).encode(),
        host="local",
    )
    request = canonical.request_from(outgoing, canonical.parsed(outgoing.body))
    return Exchange(request=request, answer=Answer(status=200, frames=(Frame(0, answer.encode()),)), origin=origin)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two scenarios."""
    folder = tmp_path / "recordings"
    turn = [
        {"role": "assistant", "tool_calls": [{"id": "x", "type": "function", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "x", "content": "7"},
    ]
    write_scenario(folder / "a.json", Scenario(name="a", exchanges=(exchange(temperature=0.5, n=1, user=""),)))
    both = (exchange("calls", messages=turn, origin="resp_1"), exchange("more", origin="resp_2", stream=True))
    write_scenario(folder / "b.json", Scenario(name="b", exchanges=both, test_id="b"))
    return folder


def test_list_shows_scenarios_and_hosts(run: Any, directory: Path) -> None:
    code, printed = run("list", "--recordings", directory)
    assert code == 0
    assert "    1  a  [local/m]" in printed
    assert "3 exchanges in 2 scenarios" in printed
    assert "host local at http://127.0.0.1:9/v1: 1 models" in printed


def test_why_names_the_recording_that_answers(run: Any, directory: Path, tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text(json.dumps({**exchange("more").request.body, "stream": True}))
    code, printed = run("why", request, "--recordings", directory)
    assert code == 0
    assert "answered by b.json#2 of scenario 'b'" in printed


def test_why_takes_the_model_as_clients_name_it(run: Any, directory: Path, tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text(json.dumps({**exchange("more").request.body, "stream": True, "model": "local/m"}))
    assert "answered by b.json#2" in run("why", request, "--recordings", directory)[1]


def test_why_tells_what_is_nearest_and_where_it_differs(run: Any, directory: Path, tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    url = "http://127.0.0.1:9/v1/chat/completions"
    request.write_text(json.dumps({"url": url, "host": "local", "body": {**exchange("more").request.body, "n": 3}}))
    code, printed = run("why", request, "--recordings", directory)
    assert code == 1
    assert "n: 3 is wanted" in printed


def test_why_shows_what_tolerant_matching_passes_over(run: Any, shared: Path, tmp_path: Path) -> None:
    library = Library.open(shared / "recordings")
    entry = next(each for each in library.entries if each.key.startswith("5d00fd96"))
    request = tmp_path / "request.json"
    request.write_text(json.dumps({**entry.body, "temperature": 0.5}))
    words = ("why", request, "--recordings", shared / "recordings", "--test-id", entry.test_id)
    assert run(*words)[0] == 1
    code, printed = run(*words, "--match", "tolerant")
    assert code == 0
    assert "passed over at temperature: 0.5 is wanted, nothing is recorded" in printed


def test_verify_proves_that_every_altered_request_is_refused(run: Any, directory: Path) -> None:
    code, printed = run("verify", "--recordings", directory)
    assert code == 0
    assert printed.startswith("3 recordings, ")
    assert "0 answered all the same" in printed


def test_verify_alters_every_leaf(directory: Path) -> None:
    library = Library.open(directory)
    leaves = sum(len(list(canonical.leaves(entry.body))) for entry in library.entries)
    verdict = verify(library)
    assert (verdict.recordings, verdict.altered) == (3, leaves)
    assert verdict.sound


def test_verify_reports_what_tolerant_matching_lets_through(run: Any, shared: Path) -> None:
    words = ("verify", "--recordings", shared / "recordings" / "telemetry")
    code, printed = run(*words)
    assert (code, "0 answered all the same" in printed) == (0, True)
    code, printed = run(*words, "--match", "tolerant")
    assert code == 1
    assert " x stream" in printed


def test_verify_counts_lone_ids_and_redacted_values_apart(tmp_path: Path) -> None:
    lone = [{"role": "tool", "tool_call_id": "x", "content": "7"}]
    exchanges = (exchange(messages=lone, api_key="[redacted]"),)
    write_scenario(tmp_path / "a.json", Scenario(name="a", exchanges=exchanges))
    verdict = verify(Library.open(tmp_path))
    assert (verdict.free, verdict.survivors) == (2, [])


def test_survivors_are_grouped_by_path() -> None:
    assert list(by_path(Verdict(survivors=[]).survivors)) == []


def test_scrub_removes_secrets_once(run: Any, tmp_path: Path) -> None:
    request = Request(
        method="POST",
        host="local",
        url=f"http://user:pw@h/v1/chat/completions?key={SECRET}",
        headers={"authorization": f"Bearer {SECRET}", "content-type": "application/json"},
        body={"model": "m", "messages": [{"role": "user", "content": f"key {SECRET}, badge 4711"}]},
    )
    frames = (Frame(1, SECRET[:7].encode()), Frame(2, SECRET[7:].encode() + b" badge 4711"))
    answer = Answer(status=200, headers={"set-cookie": "a", "retry-after": "7"}, frames=frames)
    write_scenario(tmp_path / "a.json", Scenario(name="a", exchanges=(Exchange(request=request, answer=answer),)))
    words = ("scrub", "--recordings", tmp_path, "--pattern", r"badge \d+", "--header", "Retry-After")
    assert "1 files changed" in run(*words)[1]
    text = (tmp_path / "a.json").read_text()
    assert not any(secret in text for secret in (SECRET, SECRET[7:], "pw@", "set-cookie", "4711", "retry-after"))
    assert "0 files changed" in run(*words)[1]
    assert (tmp_path / "a.json").read_text() == text


def test_scrub_cleans_llama_stacks_files_and_keeps_them_reachable(run: Any, shared: Path, tmp_path: Path) -> None:
    name = "5d00fd96a13e0fd9786eaa02261b0c38eb5b6d02ce0a0f3c8d2aaa5aa1b7d5af.json"
    text = (shared / "recordings" / "agents" / name).read_text()
    (tmp_path / name).write_text(text)
    assert "0 files changed" in run("scrub", "--recordings", tmp_path)[1]
    assert "1 files changed" in run("scrub", "--recordings", tmp_path, "--pattern", "hello")[1]
    (file,) = tmp_path.iterdir()
    assert file.name != name
    assert "hello" not in file.read_text()
    assert verify(Library.open(tmp_path, "strict")).unreachable == []


def test_import_makes_one_scenario_for_each_test(run: Any, shared: Path, tmp_path: Path) -> None:
    code, printed = run("import", shared / "recordings" / "tool_runtime", tmp_path / "out")
    assert code == 0
    source = Library.open(shared / "recordings" / "tool_runtime")
    library = Library.open(tmp_path / "out")
    calls = [entry for entry in source.entries if entry.method == "POST"]
    assert len([entry for entry in library.entries if entry.method == "POST"]) == len(calls)
    assert {entry.test_id for entry in library.entries} == {entry.test_id for entry in calls} | {None}
    assert f"to {tmp_path / 'out'}" in printed
    verdict = verify(library)
    assert (verdict.unreachable, verdict.survivors) == ([], [])


def test_export_cuts_one_response_out(run: Any, directory: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    code, _ = run("export", "resp_2", "--recordings", directory, "--out", out)
    scenario = read_scenario(out)
    assert (code, scenario.scenario, [each.origin for each in scenario.exchanges]) == (0, "resp_2", ["resp_2"])
    assert scenario.exchanges[0].parsed_answer().body == b"hello"


def test_export_joins_the_turns_of_a_chain(run: Any, directory: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert run("export", "resp_2", "resp_1", "--recordings", directory, "--out", out)[0] == 0
    assert [each.origin for each in read_scenario(out).exchanges] == ["resp_1", "resp_2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export", "resp_9", "--recordings", "{dir}", "--out", "x.json"), "no exchange that was made for 'resp_9'"),
        (("list", "--recordings", "{dir}/nowhere"), "does not exist"),
        (("list", "--recordings", "{dir}/a.json"), "is no directory"),
        (("scrub", "--recordings", "{dir}/nowhere"), "is no directory"),
        (("verify", "--recordings", "{dir}/empty"), "nothing to verify"),
        (("import", "{dir}", "{dir}/out"), "no recording in Llama Stack's format"),
        (("export", "resp_1", "--recordings", "{dir}", "--out", "{dir}/a.json/x.json"), "a.json"),
        (("scrub", "--recordings", "{dir}", "--pattern", "("), "no regular expression"),
        (("why", "{dir}/nothing.json", "--recordings", "{dir}"), "holds no request"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(run: Any, directory: Path, words: tuple[str, ...], said: str) -> None:
    (directory / "empty").mkdir()
    code, printed = run(*(word.format(dir=directory) for word in words))
    assert code == 2
    assert said in printed
    assert printed.count("\n") == 1
