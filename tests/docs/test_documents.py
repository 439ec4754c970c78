"""What the documents say is run, parsed and followed: a page that is wrong fails."""

import re
import shlex
from pathlib import Path

import pytest

import docs
from antiphon import cli, config
from antiphon.testing.host import Call, Host, Reply
from antiphon.testing.server import Server, running

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SERVER = "http://127.0.0.1:8321/v1"

ANSWERS = {
    "get_weather": [Reply(calls=[Call(name="get_weather", arguments='{"city": "Lisbon"}')]), Reply(text="Take it.")],
}


def blocks(kind):
    """The code blocks of a kind, each with the name of its page and its line."""
    found_blocks = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in BLOCK.finditer(text):
            if found["kind"] == kind:
                line = text[: found.start()].count("\n") + 1
                found_blocks.append(pytest.param(found["text"], id=f"{page.relative_to(ROOT)}:{line}"))
    return found_blocks


@pytest.fixture(scope="module")
def documented(tmp_path_factory) -> "tuple[Host, Server]":
    """The server of the examples: `openai` is a scripted host."""
    with Host(models=["gpt-4o-mini", "text-embedding-3-small"]) as host:
        embedding = {"text-embedding-3-small": {"kind": "embedding", "dimension": 4}}  # as the scripted host gives
        openai = {"base_url": host.url, "preset": "openai", "key": "sk-test", "models": embedding}
        settings = {"hosts": {"openai": openai}}
        with running(settings, tmp_path_factory.mktemp("documented")) as server:
            yield host, server


@pytest.mark.filterwarnings(
    "ignore:connect.. must be used as a context manager:DeprecationWarning"
)  # the package's own
@pytest.mark.parametrize("snippet", blocks("python run"))
def test_snippets_run_as_they_stand(snippet, documented, capsys):
    host, server = documented
    host.reset()
    for word, answers in ANSWERS.items():
        if word in snippet:
            host.answer(*answers)
    source = snippet.replace(SERVER, server.url)

    exec(compile(source, "snippet", "exec"), {"__name__": "snippet"})

    assert capsys.readouterr().out.strip() or "assert" in snippet, "an example shows something"


@pytest.mark.parametrize("text", blocks("toml"))
def test_configurations_are_valid_settings(text, tmp_path):
    if "[hosts.lab." in text and "base_url" not in text:
        text += '\n[hosts.lab]\nbase_url = "http://10.0.0.7:8000/v1"\n'
    file = tmp_path / "antiphon.toml"
    file.write_text(text)

    loaded = config.load(file, {"OPENAI_API_KEY": "sk-test", "LAB_KEY": "lab-test", "HOME": str(tmp_path)})

    assert {"lab", "local"} & config.hosts(loaded).keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_pages_exist(page):
    text = "\n".join(found["text"] for found in BLOCK.finditer(page.read_text(encoding="utf-8")))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in re.findall(r"^.*?\bantiphon ((?:serve|check|models|recordings|demo)\b[^\n#&`]*)", text, re.MULTILINE):
        assert cli.parser().parse_args(shlex.split(line)).run
    for target in re.findall(r"(?:^|\s)make ([a-z-]+)", text):
        assert target in targets, f"make {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page):
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_reached_from_the_index():
    linked = {ROOT / "docs" / "index.md", ROOT / "README.md", ROOT / "CHANGELOG.md"}
    for page in PAGES:
        links = LINK.findall(page.read_text(encoding="utf-8"))
        linked |= {(page.parent / link.partition("#")[0]).resolve() for link in links if "://" not in link}

    assert [str(page.relative_to(ROOT)) for page in PAGES if page not in linked] == []


def test_the_reference_says_what_the_program_says():
    assert sorted(docs.outdated()) == [], "run `make docs`"


def test_the_annotated_tree_is_the_tree():
    shown = BLOCK.search((ROOT / "README.md").read_text(encoding="utf-8").partition("## The tree")[2])["text"]
    names = set(re.findall(r"(\w+(?:\.py|/))", shown))
    package = ROOT / "src" / "antiphon"
    there = {
        each.name + ("/" if each.is_dir() else "") for each in package.iterdir() if not each.name.startswith(("_", "."))
    }

    assert sorted(there - names - {"py.typed"}) == []
