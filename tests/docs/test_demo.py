"""`antiphon demo` is the first thing that people see: it runs, offline, on what is shipped."""

import os
import subprocess
import sys

import record_demo
from antiphon.demo import play
from antiphon.replay.recording import read_scenario


def test_the_demo_plays_all_its_scenes_offline(tmp_path):
    keep = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, "-m", "antiphon.cli", "demo"]
    got = subprocess.run(
        command, check=False, env={**keep, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60
    )

    assert got.returncode == 0, got.stderr
    for said in record_demo.SCRIPT:
        if isinstance(said, str):
            assert said.replace("<|FILE|>", "[harbour.pdf]") in got.stdout
    assert "calls get_weather" in got.stdout
    assert "holds 4 items" in got.stdout
    assert "searches for ['opening the lock at night']: 1 found" in got.stdout
    assert "gauge has water_depth and sound_horn" in got.stdout
    own, asked, answered = (
        got.stdout.index(line)
        for line in ('get_weather({"city": "Linden"}) ran here', "gauge | reads the depth", "ran on the MCP server")
    )
    assert max(own, asked) < answered, "the program's part is done while the server's part is under way"
    leave, horn = got.stdout.index("asks for leave: sound_horn"), got.stdout.index("gauge | sounds the horn: TOOT")
    assert leave < horn, "the MCP server was really called, and not before it was allowed"
    assert "OPENAI_API_KEY" in got.stdout, "it says how to go on"


def test_the_shipped_recording_is_what_recording_gives_now(tmp_path, capsys):
    made = read_scenario(record_demo.record(tmp_path))
    shipped = read_scenario(play.RECORDINGS / "default.json")

    assert [each.request.body for each in made.exchanges] == [each.request.body for each in shipped.exchanges], (
        "run `make demo-recording`"
    )
    shown = capsys.readouterr().out
    assert "collect beetles" in shown
    assert "[harbour.pdf]." in shown


def test_what_the_demo_lacks_is_named_with_the_way_to_get_it(capsys):
    assert play.main({"openai": "the client", "no_such_package": "to see what is said"}) == 1
    assert capsys.readouterr().err == (
        "Missing for the demo: no_such_package (to see what is said): pip install 'antiphon[demo]'\n"
    )
