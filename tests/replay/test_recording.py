"""The file format: what is written is what is read, whole or not at all, and people can read it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import InvalidRequest
from antiphon.replay import recording
from antiphon.replay.recording import Answer, Exchange, Frame, Request, Scenario, StoredScenario, frames_from

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
FRAMES = st.lists(st.builds(Frame, st.integers(0, 10**6), st.binary(min_size=1, max_size=20)), max_size=5).map(tuple)
ANSWERS = st.builds(
    Answer,
    status=st.sampled_from([0, 200, 429]),
    headers=st.dictionaries(TEXT, TEXT, max_size=2),
    frames=FRAMES,
    end=st.sampled_from(["complete", "cut", "timeout"]),
    message=TEXT,
)
BODIES = st.dictionaries(TEXT, TEXT | st.integers(-9, 9) | st.lists(TEXT, max_size=2), max_size=3)
REQUESTS = st.builds(Request, method=st.just("POST"), host=TEXT, url=TEXT, body=BODIES)
EXCHANGES = st.builds(Exchange, request=REQUESTS, answer=ANSWERS, origin=st.none() | TEXT)


def parsed(text: str) -> list[Exchange]:
    """The exchanges in a file's text."""
    stored = msgspec.json.decode(text, type=StoredScenario)
    return [
        Exchange(request=each.request, answer=each.parsed_answer(), origin=each.origin) for each in stored.exchanges
    ]


def exchange(text: str = "hi", **answer: Any) -> Exchange:
    """A small exchange."""
    request = Request(method="POST", host="h", url="http://h/v1/chat/completions", body={"model": "m", "q": text})
    frames = (Frame(3, b'data: {"a": 1}\n\n'), Frame(5, b"data: [DONE]\n\n"))
    return Exchange(request=request, answer=Answer(**{"status": 200, "frames": frames, **answer}))


@given(TEXT, st.lists(EXCHANGES, max_size=3))
def test_what_is_written_is_what_is_read(name: str, exchanges: list[Exchange]) -> None:
    text = recording.render_scenario(name, None, [recording.render_exchange(each) for each in exchanges])
    assert parsed(text) == exchanges
    assert json.loads(text)["format"] == recording.FORMAT


def test_a_frame_stands_on_one_line_of_its_own() -> None:
    text = recording.render_scenario("s", None, [recording.render_exchange(exchange())])
    lines = [line.strip() for line in text.splitlines()]
    assert '[3, "data: {\\"a\\": 1}\\n\\n"],' in lines
    assert '"q": "hi"' in lines


def test_bytes_that_are_no_text_are_kept() -> None:
    halves = "é".encode()
    frames = (Frame(0, halves[:1]), Frame(1, halves[1:]))
    assert (
        parsed(recording.render_scenario("s", None, [recording.render_exchange(exchange(frames=frames))]))[
            0
        ].answer.body
        == halves
    )


def test_a_scenario_is_read_back_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "s.json"
    recording.write_scenario(file, Scenario(name="s", exchanges=(exchange(),), test_id="t"))
    stored = recording.read_scenario(file)
    assert (stored.scenario, stored.test_id, len(stored.exchanges)) == ("s", "t", 1)
    assert [path.name for path in file.parent.iterdir()] == ["s.json"]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text('{"format": "antiphon-recording/1", "scenario": 3}')
    with pytest.raises(InvalidRequest, match=r"s\.json"):
        recording.read_scenario(file)


def test_scenarios_have_different_readable_file_names() -> None:
    names = ["default", "tests/a.py::test_b[x]", "tests/a.py::test_b[x", "ä", "..", "x" * 300, "x" * 299]
    files = [recording.file_name(name) for name in names]
    assert files[0] == "default.json"
    assert "test_b-x" in files[1]
    assert len(set(files)) == len(files)
    assert all("/" not in file and not file.startswith(".") and len(file) < 120 for file in files)


def test_empty_pieces_are_no_frames() -> None:
    assert frames_from([b"a", b"", b"c"], [1, 2, 3]) == (Frame(1, b"a"), Frame(3, b"c"))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    recording.write_whole(file, "old")
    with pytest.raises(UnicodeEncodeError):
        recording.write_whole(file, "new \ud800")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("s.json", "old")]


def test_a_kill_in_the_middle_of_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    program = f"""
from pathlib import Path
from antiphon.replay.recording import Answer, Exchange, Frame, Request, Scenario, write_scenario
request = Request(method="POST", host="h", url="http://h/v1/x", body={{"q": "x" * 1000}})
answer = Answer(status=200, frames=tuple(Frame(n, b"data: x\\n\\n") for n in range(300)))
count = 0
while True:
    count += 1
    exchanges = (Exchange(request=request, answer=answer),) * (count % 9 + 1)
    write_scenario(Path({str(file)!r}), Scenario(name="s", exchanges=exchanges))
    print(count, flush=True)
"""
    for writes in (1, 3, 7):
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=os.environ)
        assert process.stdout is not None
        for _ in range(writes):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert 1 <= len(recording.read_scenario(file).exchanges) <= 9
