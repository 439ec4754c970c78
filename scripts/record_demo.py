"""Records anew what `antiphon demo` plays, after a change of what is sent to model hosts: `make demo-recording`.

The model is a script; what it says is streamed at a pace that a person can follow. The file that it cites is named in
the recording as a replaying server names it.
"""

import itertools
import json
import re
import tempfile
from pathlib import Path
from typing import Final

from antiphon.demo import play, scenes
from antiphon.replay.recording import Answer, Exchange, Frame, Scenario, read_scenario, write_scenario
from antiphon.testing.host import Call, Host, Reply, Request
from antiphon.testing.server import running

FIRST_MS: Final = 250
NEXT_MS: Final = 45

SCRIPT: Final = (
    "An antiphon is a song in which two choirs answer each other, line by line.",
    Call(name="get_weather", arguments=json.dumps({"city": "Lisbon"}), id="call_weather_1"),
    "Yes: it is raining in Lisbon, at 14 degrees. Take the umbrella.",
    "Nice to meet you, Ada. Beetles are a fine thing to collect.",
    "You collect beetles, and your name is Ada.",
    Call(name="knowledge_search", arguments=json.dumps({"query": "opening the lock at night"}), id="call_search_1"),
    "After sunset only the harbour master may open it, and only for a doctor or a sick person <|FILE|>.",
    (
        Call(name="water_depth", arguments=json.dumps({"place": "lock"}), id="call_depth_1"),
        Call(name="knowledge_search", arguments=json.dumps({"query": "coming in at night"}), id="call_search_2"),
        Call(name="get_weather", arguments=json.dumps({"city": "Linden"}), id="call_weather_2"),
    ),
    "Yes, for a sick person the lock is opened at night <|FILE|>. But soon: the 3.2 metres fall. And yes, it rains.",
    Call(name="sound_horn", arguments=json.dumps({"blasts": 1}), id="call_horn_1"),
    "The horn was sounded; the harbour knows.",
)
FILE: Final = re.compile(r"file-[0-9a-f]{48}")


def record(folder: Path) -> Path:
    """Plays the demo on the scripted model; returns the recording."""
    with Host(models=["storyteller"]) as host, play.tide_gauge() as gauge:
        said = iter(SCRIPT)
        host.by_request = lambda request: None if request.path.endswith("/embeddings") else _reply(next(said), request)
        settings = {
            "mode": "record",
            "recordings": str(folder / "recordings"),
            "connectors": play.connectors(gauge),
            "hosts": {
                "demo": {"base_url": host.url, "preset": "custom", "models": {"embedder": {"kind": "embedding"}}}
            },
        }
        with running(settings, folder) as server:
            scenes.run(server.url)
    (made,) = (folder / "recordings").glob("*.json")
    return made


def _reply(said: str | Call | tuple[Call, ...], request: Request) -> Reply:
    if isinstance(said, Call):
        return Reply(calls=[said])
    if isinstance(said, tuple):
        return Reply(calls=said)
    shown = FILE.search(request.body.decode())
    words = said.replace("FILE", shown[0] if shown else "").split(" ")
    return Reply(text=[*(f"{word} " for word in words[:-1]), words[-1]])


def file_in_replay(recordings: Path, folder: Path) -> str:
    """The id that a replaying server gives the document."""
    with running({"mode": "replay", "recordings": str(recordings)}, folder) as server, server.client() as client:
        return str(client.files.create(file=scenes.DOCUMENT, purpose="assistants").id)


def paced(answer: Answer, file: str) -> Answer:
    """The same answer with each event in a frame of its own, one after the other; what it cites is `file`."""
    body = FILE.sub(file, answer.body.decode()).encode()
    events = [event + b"\n\n" for event in body.split(b"\n\n") if event]
    if answer.headers.get("content-type") != "text/event-stream":
        return answer
    frames = tuple(
        Frame(at_ms, event) for at_ms, event in zip(itertools.count(FIRST_MS, NEXT_MS), events, strict=False)
    )
    return Answer(status=answer.status, headers=answer.headers, frames=frames)


def main() -> None:
    """Writes the recording into the package."""
    with tempfile.TemporaryDirectory() as folder:
        made = record(Path(folder))
        stored, file_id = read_scenario(made), file_in_replay(made.parent, Path(folder) / "replay")
    exchanges = tuple(
        Exchange(request=each.request, answer=paced(each.parsed_answer(), file_id), origin=each.origin)
        for each in stored.exchanges
    )
    file = play.RECORDINGS / "default.json"
    write_scenario(file, Scenario(name=stored.scenario, exchanges=exchanges))
    print(f"\n{file}: {len(exchanges)} exchanges")


if __name__ == "__main__":
    main()
