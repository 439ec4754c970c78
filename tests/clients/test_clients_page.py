"""The page about clients says what is true: its snippets run as they stand, its versions are those that were driven."""

import importlib.metadata
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from antiphon.testing.host import Host
from antiphon.testing.server import Server, running

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "clients.md").read_text(encoding="utf-8")
LOCK = json.loads((ROOT / "tests" / "clients" / "vercel" / "package-lock.json").read_text(encoding="utf-8"))
ROWS = re.findall(r"^\| (\S+) \| ([\d.]+) \|", PAGE, re.MULTILINE)
ADDRESS = "http://127.0.0.1:8321"


def snippets(kind: str) -> list[str]:
    """The code blocks of a kind."""
    return re.findall(rf"^```{kind} clients\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def documented(session_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of the examples: `openai` is the scripted host."""
    settings = {"hosts": {"openai": {"base_url": session_host.url, "preset": "openai", "key": "sk-test"}}}
    with running(settings, tmp_path_factory.mktemp("documented")) as started:
        yield started


@pytest.mark.parametrize("snippet", snippets("python"), ids=lambda text: text.split()[1])
def test_a_python_snippet_runs_as_it_stands(
    snippet: str, documented: Server, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(compile(snippet.replace(ADDRESS, documented.root), "snippet", "exec"), {"__name__": "snippet"})

    assert capsys.readouterr().out.strip() == "Hello there."


@pytest.mark.parametrize(("name", "version"), ROWS)
def test_the_named_version_is_the_one_that_was_driven(name: str, version: str) -> None:
    locked = LOCK["packages"].get(f"node_modules/{name}")

    assert version == (locked["version"] if locked else importlib.metadata.version(name))
