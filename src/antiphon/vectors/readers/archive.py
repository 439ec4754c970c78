"""Zip archives of XML, as office programs write them: what is unpacked is counted, and XML may define no entities."""

import posixpath
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from antiphon.vectors.readers.refused import Bounds, Refused, broken

READ_BYTES: Final = 64 * 1024
DEPTH_MAX: Final = 500
"""Elements in each other; the deepest that is sensible is some 50."""
TOKEN_BYTES_MAX: Final = 4 * 1024 * 1024
"""A tag with its attributes; the parser reads a piece of one again whenever more of it comes."""


class Archive:
    """A zip file's members. Raises `Refused` for what is broken, encrypted, or grows beyond the bounds."""

    def __init__(self, content: bytes, bounds: Bounds) -> None:
        self._left = self._room = bounds.expanded_bytes_max
        try:
            self._zip = zipfile.ZipFile(BytesIO(content))
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise broken("zip archive", error) from error
        self.names = frozenset(self._zip.namelist())

    def pieces(self, name: str) -> Iterator[bytes]:
        """A member's bytes as they are unpacked; none if there is no such member."""
        if name not in self.names:
            return
        try:
            with self._zip.open(name) as member:
                while piece := member.read(READ_BYTES):
                    self._left -= len(piece)
                    if self._left < 0:
                        raise Refused(
                            "invalid_file",
                            f"The file expands to more than the {self._room} bytes that this server unpacks.",
                        )
                    yield piece
        except RuntimeError as error:  # the library's way to say that a password is needed
            raise Refused("invalid_file", "The file is encrypted: it cannot be read without its password.") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
            raise broken("zip archive", error) from error

    def tree(self, name: str) -> Element:
        """A member's XML, with its namespaces; an empty element if there is no such member."""
        xml = _Xml(None)
        for piece in self.pieces(name):
            xml.feed(piece)
        return xml.end()

    def each(self, name: str, unit: str) -> Iterator[Element]:
        """The elements with a certain local name, as they come; each is empty again when the next is asked for."""
        xml = _Xml("}" + unit)
        for piece in self.pieces(name):
            xml.feed(piece)
            for element in xml.units:
                yield element
                element.clear()
            xml.units.clear()

    def targets(self, name: str) -> dict[str, str]:
        """What the relations of a part point to, by their ids: names of members."""
        return {each.get("Id", ""): _target(name, each) for each in self.tree(_relations(name))}

    def related(self, name: str, kind: str) -> str:
        """The member that a part's first relation of a kind points to; empty if there is none."""
        related = (each for each in self.tree(_relations(name)) if each.get("Type", "").endswith("/" + kind))
        return next((_target(name, each) for each in related), "")


def _relations(name: str) -> str:
    folder, file = posixpath.split(name)
    return posixpath.join(folder, "_rels", f"{file}.rels")


def _target(name: str, relation: Element) -> str:
    return beside(name, relation.get("Target", ""))


def beside(name: str, reference: str) -> str:
    """The member that a reference in the member `name` means."""
    return posixpath.normpath(posixpath.join("/", posixpath.dirname(name), reference)).lstrip("/")


class _Xml:
    """An XML file as a tree, built in C. `units` are the elements that ended since it was last cleared."""

    def __init__(self, unit: str | None) -> None:
        self._tree = TreeBuilder()
        self._unit = unit
        self._depth = 0
        self._fed = 0
        self.units: list[Element] = []
        self._parser = expat.ParserCreate(namespace_separator="}")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._tree.data
        self._parser.EntityDeclHandler = _no_entities
        self._parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def feed(self, piece: bytes) -> None:
        """Raises `Refused` for what is no XML, or too deep."""
        self._fed += len(piece)
        try:
            self._parser.Parse(piece)
        except (expat.ExpatError, ValueError, LookupError) as error:
            raise broken("XML", error) from error
        if self._fed - self._parser.CurrentByteIndex > TOKEN_BYTES_MAX:
            raise broken("XML", f"one of its tags is longer than {TOKEN_BYTES_MAX} bytes")

    def end(self) -> Element:
        """The root; an empty element if nothing was fed."""
        if not self._fed:
            return Element("nothing")
        try:
            self._parser.Parse(b"", True)  # noqa: FBT003 - it takes no keywords
        except expat.ExpatError as error:
            raise broken("XML", error) from error
        return self._tree.close()

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise broken("XML", f"its elements are nested more than {DEPTH_MAX} deep")
        self._tree.start(tag, attributes)

    def _end(self, tag: str) -> None:
        self._depth -= 1
        element = self._tree.end(tag)
        if self._unit is not None and tag.endswith(self._unit):
            self.units.append(element)


def _no_entities(name: str, *_: object) -> None:
    raise Refused("invalid_file", f"The file's XML defines an entity ({name[:100]!r}), which is not allowed.")


def local(element: Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def attribute(element: Element, name: str) -> str | None:
    """The attribute with a certain local name."""
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return value
    return None


def found(element: Element, *path: str) -> Element | None:
    """The first descendant along local names."""
    for name in path:
        for child in element:
            if local(child) == name:
                element = child
                break
        else:
            return None
    return element


def every(elements: Iterable[Element], name: str) -> Iterator[Element]:
    """Those with a certain local name."""
    return (each for each in elements if local(each) == name)
