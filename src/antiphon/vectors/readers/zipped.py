"""What a zip archive is: a document of an office program, a book, or none of these."""

from collections.abc import Iterator
from typing import Final

from antiphon.vectors.base import Block
from antiphon.vectors.readers.archive import Archive
from antiphon.vectors.readers.kinds import reader
from antiphon.vectors.readers.refused import Bounds, Refused

OFFICE: Final = {"word/": "word.read_docx", "ppt/": "slides.read_pptx", "xl/": "sheets.read_xlsx"}
"""By the folder that such a document has."""
MIMETYPES: Final = {
    b"application/epub+zip": "epub.read_epub",
    b"application/vnd.oasis.opendocument": "opendocument.read_opendocument",
}
"""By what its member `mimetype` begins with."""


def read_zipped(content: bytes, bounds: Bounds) -> Iterator[Block]:
    """The blocks of the document that the archive is. Raises `Refused` where it is none."""
    return reader(_kind(Archive(content, bounds)))(content, bounds)


def _kind(archive: Archive) -> str:
    said = next(archive.pieces("mimetype"), b"")
    for beginning, named in MIMETYPES.items():
        if said.startswith(beginning):
            return named
    if "[Content_Types].xml" in archive.names:
        for folder, named in OFFICE.items():
            if any(name.startswith(folder) for name in archive.names):
                return named
    raise Refused("unsupported_file", "The file is a zip archive of no known kind; unpack it, and upload its files.")
