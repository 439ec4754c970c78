"""Plug-ins: ours and those of others come through one door."""

import tomllib
from pathlib import Path

import pytest

from antiphon.config import ConfigError
from antiphon.plugins import (
    BUILT_IN,
    INDEXES,
    PROVIDERS,
    SEARCH_PROVIDERS,
    index_factory,
    provider_factory,
    search_factory,
)


def test_what_is_built_in_is_what_the_package_declares() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN[PROVIDERS])
def test_a_built_in_provider_is_found_by_name(name: str) -> None:
    assert callable(provider_factory(name))


@pytest.mark.parametrize("name", BUILT_IN[INDEXES])
def test_a_built_in_index_is_found_by_name(name: str) -> None:
    assert callable(index_factory(name))


def test_a_missing_index_is_named_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"No index named 'pigeonholes'.*embedded, postgres, qdrant"):
        index_factory("pigeonholes")


@pytest.mark.parametrize("name", BUILT_IN[SEARCH_PROVIDERS])
def test_a_built_in_search_provider_is_found_by_name(name: str) -> None:
    assert callable(search_factory(name))


def test_a_missing_search_provider_is_named_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"No search provider named 'gazette'.*brave, exa, searxng, tavily"):
        search_factory("gazette")


def test_a_missing_provider_is_named_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"No provider named 'smoke_signals'.*chat_completions"):
        provider_factory("smoke_signals")


def package(folder: Path, value: str) -> None:
    """An installed package that offers one provider."""
    about = folder / "semaphore-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: semaphore\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{PROVIDERS}]\nsemaphore = {value}\n")
    (folder / "semaphore_flags.py").write_text("def make(host, transport):\n    return (host, transport)\n")


def test_an_installed_package_offers_a_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "semaphore_flags:make")
    monkeypatch.syspath_prepend(tmp_path)
    assert provider_factory("semaphore")("host", "transport") == ("host", "transport")


@pytest.mark.parametrize("value", ["semaphore_nowhere:make", "semaphore_flags:nothing"])
def test_a_broken_plug_in_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    package(tmp_path, value)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=f"'semaphore' \\({value}\\) cannot be loaded"):
        provider_factory("semaphore")
