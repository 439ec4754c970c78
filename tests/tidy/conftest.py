"""What the tidiness tests look at: every module of the package and of the tests, parsed once."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Module(NamedTuple):
    """A parsed file. `path` is relative to the package, or to the folder of tests."""

    path: str
    source: str
    tree: ast.Module


class Function(NamedTuple):
    """A function wherever it stands. `where` is what a complaint names."""

    where: str
    path: str
    node: ast.FunctionDef | ast.AsyncFunctionDef

    @property
    def lines(self) -> int:
        """From `def` to the end, docstring included."""
        return (self.node.end_lineno or 0) - self.node.lineno + 1


def parsed(folder: Path) -> list[Module]:
    """All Python files below a folder."""
    sources = ((file, file.read_text(encoding="utf-8")) for file in sorted(folder.rglob("*.py")))
    return [Module(str(file.relative_to(folder)), source, ast.parse(source)) for file, source in sources]


def functions_of(modules: list[Module]) -> Iterator[Function]:
    """All functions, methods and nested functions."""
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield Function(f"{module.path}:{node.lineno} {node.name}", module.path, node)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def package() -> list[Module]:
    """The modules of `antiphon`."""
    return parsed(ROOT / "src" / "antiphon")


@pytest.fixture(scope="session")
def functions(package: list[Module]) -> list[Function]:
    """The functions of `antiphon`."""
    return list(functions_of(package))


@pytest.fixture(scope="session")
def tests() -> list[Module]:
    """The modules of the tests."""
    return parsed(ROOT / "tests")


@pytest.fixture(scope="session")
def cases(tests: list[Module]) -> list[Function]:
    """The tests themselves."""
    found = functions_of([module for module in tests if Path(module.path).name.startswith("test_")])
    return [each for each in found if each.node.name.startswith("test_")]
