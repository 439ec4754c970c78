"""Judged collections from text at hand: documents, and questions with the passage that answers each. Deterministic.

`ours` is this repository's documentation and the docstrings of its source, `stdlib` the docstrings of Python's standard
library: both are on every machine. `debian` and `manuals` are what Debian packages of documentation hold, unpacked into
a folder.

Kinds of questions, none of them made by a model:

- `written`: by a person, with a short excerpt of the text that answers it (`questions.jsonl`). A chunk is right if it
  has the excerpt.
- `section`: a section's heading or its first sentence, which is taken out of the text.
- `title`: likewise a heading that is a question, as in a FAQ.
- `identifier`: a name that only one section has, alone or with two words that stand near it.

Of the last three, a chunk is right if it holds at least half of the section, or lies by half in it.
"""

import ast
import asyncio
import builtins
import hashlib
import importlib
import inspect
import re
import sys
import sysconfig
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from antiphon.knowledge import ParsingConfig
from antiphon.vectors.base import Block, Document, Piece
from antiphon.vectors.chunk import SEPARATOR
from antiphon.vectors.parse import parse

ROOT: Final = Path(__file__).parents[2]
WRITTEN: Final = Path(__file__).with_name("questions.jsonl")
OF_A_KIND: Final = 250
"""Questions made in one way for one collection, at most."""
PURE: Final = """
abc argparse ast asyncio.base_events asyncio.locks asyncio.queues asyncio.runners asyncio.streams asyncio.subprocess
asyncio.taskgroups asyncio.tasks asyncio.timeouts base64 bisect calendar cmd codecs collections.__init__ compileall
concurrent.futures._base concurrent.futures.thread configparser contextlib copy csv dataclasses datetime decimal difflib
doctest email.message email.utils enum filecmp fileinput fnmatch fractions ftplib functools getpass gettext glob gzip
hashlib heapq html.parser http.client http.cookiejar http.server imaplib importlib.resources._common inspect ipaddress
json.__init__ json.decoder json.encoder linecache locale logging.__init__ logging.handlers lzma mailbox mimetypes
multiprocessing.pool numbers os pathlib pdb pickle pickletools platform plistlib poplib pprint profile pstats queue
quopri random re.__init__ reprlib sched secrets selectors shelve shlex shutil signal smtplib socket socketserver
sqlite3.dump ssl statistics string subprocess sysconfig tarfile telnetlib tempfile textwrap threading timeit tokenize
trace traceback tracemalloc turtle types typing unittest.case unittest.loader unittest.mock urllib.parse urllib.request
urllib.robotparser uuid venv.__init__ warnings wave weakref webbrowser xml.dom.minidom xml.etree.ElementTree
xml.sax.handler zipapp zipfile zoneinfo._common
"""
COMPILED: Final = "builtins itertools math time posix sys operator _bisect _csv binascii zlib gc _thread array"
DEBIAN: Final = {
    "usr/share/doc/debian/FAQ": "*.en.html",
    "usr/share/doc/python3.11/html/faq": "*.html",
    "usr/share/doc/python3.11/html/howto": "*.html",
    "usr/share/developers-reference": "*.en.html",
    "usr/share/doc/git-doc/howto": "*.html",
}
"""Where Debian's packages have what is taken of them."""
MANUALS: Final = {
    "usr/share/debian-reference": "ch0[1-6]*.en.html",
    "usr/share/doc/git-doc": "git[a-z]*.html",
    "usr/share/doc/bash-doc": "bashref.html",
}
"""More of them, which was looked at when all was decided."""
_IDENTIFIER: Final = re.compile(r"--[a-z][a-z-]{3,}|\b[A-Za-z][A-Za-z0-9]*(?:[_.][A-Za-z0-9]+)+\b|\b[a-z]+[A-Z]\w{3,}")
_PAGE_FURNITURE: Final = (
    "Navigation",
    "Table of Contents",
    "This Page",
    "Previous topic",
    "Next topic",
    "Quick search",
)
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_WORD: Final = re.compile(r"\b[a-z]{5,}\b")


class Section(Struct, kw_only=True):
    """A heading and what stands below it, up to the next heading."""

    file: str
    name: str
    heading: Block | None
    blocks: list[Block]
    start: int = 0
    end: int = 0

    @property
    def id(self) -> str:
        """What names it."""
        return f"{self.file}#{self.name}"

    def body(self) -> str:
        """Its text without the heading."""
        return SEPARATOR.join(block.text for block in self.blocks)

    def all_blocks(self) -> list[Block]:
        """What it adds to its document."""
        return [*([self.heading] if self.heading is not None else []), *self.blocks]


class Question(Struct, kw_only=True, omit_defaults=True):
    """A question; a chunk of `file` answers it that has the text `answer`, or lies in the passage."""

    question: str
    file: str
    kind: str = "written"
    answer: str = ""
    section: str = ""
    passage: tuple[int, int] = (0, 0)

    @property
    def held_out(self) -> bool:
        """Half of the questions: no number was searched for on them."""
        return _digest(f"{self.file} {self.question}") % 2 == 1

    def answered_by(self, file: str, piece: Piece) -> bool:
        """Whether a chunk is right."""
        if file != self.file:
            return False
        if self.answer:
            return squeezed(self.answer) in squeezed(piece.text)
        start, end = self.passage
        common = min(end, piece.end) - max(start, piece.start)
        return 2 * common >= min(end - start, piece.end - piece.start)


class Collection(Struct, kw_only=True):
    """Documents by file name, and the questions over them."""

    name: str
    documents: dict[str, Document]
    questions: list[Question]


def squeezed(text: str) -> str:
    """Text with white space that counts no more."""
    return " ".join(text.split())


def ours() -> Collection:
    """This repository's own documentation."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    files = [path for path in files if path.name != "quality.md"]  # which tells of the questions
    found = [part for path in files for part in _parsed(path, str(path.relative_to(ROOT)))]
    source = ROOT / "src" / "antiphon"
    for path in sorted(source.rglob("*.py")):
        name = "antiphon." + ".".join(path.relative_to(source).with_suffix("").parts)
        found += _documented(path, name)
    return _collection("ours", found)


def stdlib() -> Collection:
    """The standard library's docstrings, a document for each module."""
    folder = Path(sysconfig.get_path("stdlib"))
    found: list[Section] = []
    for name in PURE.split():
        path = folder / (name.replace(".", "/") + ".py")
        if path.exists():
            found += _documented(path, name.removesuffix(".__init__"))
    for name in COMPILED.split():
        found += _introspected(name)
    return _collection("stdlib", found)


def debian(root: Path) -> Collection:
    """What is unpacked of Debian's packages below `root`."""
    return _unpacked("debian", root, DEBIAN)


def manuals(root: Path) -> Collection:
    """Likewise, other texts."""
    return _unpacked("manuals", root, MANUALS)


def _unpacked(name: str, root: Path, folders: dict[str, str]) -> Collection:
    paths = [path for folder, pattern in folders.items() for path in sorted((root / folder).glob(pattern))]
    names = [(path, str(path.relative_to(root / "usr/share"))) for path in paths if path.stem.split(".")[0] != "index"]
    return _collection(name, [part for path, file in names for part in _parsed(path, file)])


# ---------------------------------------------------------------- sections of texts


def _parsed(path: Path, name: str) -> list[Section]:
    whole = path.read_bytes()

    async def content() -> AsyncIterator[bytes]:
        yield whole

    document = asyncio.run(parse(content(), path.name, ParsingConfig()))
    return _sections(name, document.blocks)


def _sections(file: str, blocks: Iterable[Block]) -> list[Section]:
    found = [Section(file=file, name="", heading=None, blocks=[])]
    for block in blocks:
        if block.kind == "heading":
            name = squeezed(block.text).rstrip("¶ ")
            clean = msgspec.structs.replace(block, text=name)
            found.append(Section(file=file, name=name, heading=clean, blocks=[]))
        else:
            found[-1].blocks.append(block)
    names = [each.name for each in found if len(each.name) > 12]
    for each in found:
        each.blocks = [block for block in each.blocks if sum(name in block.text for name in names) < 3]  # no contents
    return [each for each in found if (each.blocks or each.heading) and each.name not in _PAGE_FURNITURE]


def _documented(path: Path, module: str) -> list[Section]:
    """The docstrings of a module's public definitions, by its source."""

    def walk(node: ast.AST, prefix: str, level: int) -> Iterator[Section]:
        for each in ast.iter_child_nodes(node):
            if isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{prefix}.{each.name}"
                text = ast.get_docstring(each)
                if text and (not each.name.startswith("_") or each.name == "__init__"):
                    arguments = "" if isinstance(each, ast.ClassDef) else f"({ast.unparse(each.args)})"
                    yield _section(module, name, f"{name}{arguments}", (level, text))
                if isinstance(each, ast.ClassDef):
                    yield from walk(each, name, level + 1)

    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = _section(module, module, module, (1, ast.get_docstring(tree) or ""))
    return [top, *walk(tree, module, 2)]


def _introspected(module: str) -> Iterator[Section]:
    """The docstrings of a compiled module, which has no source."""
    found = importlib.import_module(module)
    shown = module.lstrip("_")
    yield _section(shown, shown, shown, (1, inspect.getdoc(found) or ""))
    for name, value in sorted(vars(found).items()):
        text = value.__doc__ if callable(value) and not name.startswith("_") else None
        if isinstance(value, type) and issubclass(value, BaseException) and module != "builtins":
            continue
        if text:
            yield _section(shown, f"{shown}.{name}", f"{shown}.{name}", (2, inspect.cleandoc(text)))
            if isinstance(value, type) and found is builtins:
                yield from _methods(shown, name, value)


def _methods(module: str, name: str, value: type) -> Iterator[Section]:
    for method, each in sorted(vars(value).items()):
        if not method.startswith("_") and callable(each) and each.__doc__:
            qualified = f"{module}.{name}.{method}"
            yield _section(module, qualified, qualified, (3, inspect.cleandoc(each.__doc__)))


def _section(file: str, name: str, heading: str, content: tuple[int, str]) -> Section:
    level, text = content
    blocks = [Block(text=part) for part in re.split(r"\n\s*\n", text) if part.strip()]
    return Section(
        file=f"{file}.txt", name=name, heading=Block(text=heading, kind="heading", level=level), blocks=blocks
    )


# ---------------------------------------------------------------- questions


def _collection(name: str, sections: list[Section]) -> Collection:
    """Documents from sections, after what is asked was taken out of some of them."""
    files = {each.file for each in sections}
    lines = WRITTEN.read_bytes().splitlines()
    written = [each for each in (msgspec.json.decode(line, type=Question) for line in lines) if each.file in files]
    answers = [(each.file, squeezed(each.answer)) for each in written]
    texts = {each.id: squeezed(each.body()) for each in sections}
    free = [
        each for each in sections if not any(each.file == file and answer in texts[each.id] for file, answer in answers)
    ]
    order = sorted(free, key=lambda each: _digest(each.id))
    asked: list[tuple[Section, Question]] = []
    used: set[str] = set()
    for kind, take in (("title", _titled), ("section", _headed), ("section", _summarised)):
        some = _taken(kind, take, [each for each in order if each.id not in used])
        asked += some
        used |= {each.id for each, _ in some}
    asked += _identified(order, sections)
    documents = _documents(sections)
    for section, question in asked:
        question.passage = section.start, section.end
        question.section = section.id
    kept = [each for each in written if squeezed(each.answer) in squeezed(documents[each.file].text())]
    if len(kept) < len(written):
        print(f"{name}: {len(written) - len(kept)} written questions are left out: texts changed", file=sys.stderr)
    return Collection(name=name, documents=documents, questions=[*kept, *(each for _, each in asked)])


def _taken(
    kind: str, take: Callable[[Section], str | None], sections: Iterable[Section]
) -> list[tuple[Section, Question]]:
    found: list[tuple[Section, Question]] = []
    for section in sections:
        if len(found) < OF_A_KIND and (text := take(section)):
            found.append((section, Question(question=text, file=section.file, kind=kind)))
    return found


def _titled(section: Section) -> str | None:
    return _headed(section) if section.name.endswith("?") else None


def _headed(section: Section) -> str | None:
    """A heading of prose, which goes."""
    words = re.sub(r"^[\d.]+\s*", "", section.name).split()
    if section.heading is None or section.heading.level == 1 or not 3 <= len(words) <= 25 or len(section.body()) < 200:
        return None
    if section.file.endswith(".txt") or (section.file.startswith("docs/decisions") and words[0] == "What"):
        return None
    section.heading = None
    return " ".join(words)


def _summarised(section: Section) -> str | None:
    """The first sentence, which goes; what remains is still something."""
    if not section.blocks or section.blocks[0].kind != "text":
        return None
    first, *rest = _SENTENCE.split(section.blocks[0].text, maxsplit=1)
    left = SEPARATOR.join([*rest, *(block.text for block in section.blocks[1:])])
    if not 30 <= len(first) <= 250 or len(first.split()) < 5 or len(left) < 150:
        return None
    section.blocks = [*(Block(text=text) for text in rest), *section.blocks[1:]]
    return squeezed(first)


def _identified(sections: Iterable[Section], among: Iterable[Section]) -> list[tuple[Section, Question]]:
    spread = Counter(name for each in among for name in {found.lower() for found in _IDENTIFIER.findall(_whole(each))})
    found: list[tuple[Section, Question]] = []
    for section in sections:
        names = sorted({name for name in _IDENTIFIER.findall(_whole(section)) if spread[name.lower()] == 1})
        if not names or len(section.body()) < 80 or len(found) == OF_A_KIND:
            continue
        name = names[_digest(section.id) % len(names)]
        near = next((block.text for block in section.all_blocks() if name in block.text), "")
        words = sorted(set(_WORD.findall(near.replace(name, " "))), key=lambda word: (-len(word), word))[:2]
        text = " ".join([name, *(words if len(found) % 2 else [])])
        found.append((section, Question(question=text, file=section.file, kind="identifier")))
    return found


def _whole(section: Section) -> str:
    return SEPARATOR.join(block.text for block in section.all_blocks())


def _documents(sections: Iterable[Section]) -> dict[str, Document]:
    blocks: dict[str, list[Block]] = {}
    sizes: Counter[str] = Counter()
    for section in sections:
        mine = section.all_blocks()
        section.start = sizes[section.file]
        section.end = section.start + len(SEPARATOR.join(block.text for block in mine))
        sizes[section.file] += sum(len(block.text) + len(SEPARATOR) for block in mine)
        blocks.setdefault(section.file, []).extend(mine)
    return {file: Document(blocks=tuple(each)) for file, each in blocks.items() if each}


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
