"""Which reader a file needs: by what it contains first, and by its name where contents do not tell."""

import importlib
import re
from collections.abc import Callable, Iterator
from typing import Final

from antiphon.vectors.base import Block
from antiphon.vectors.readers.refused import Bounds, Refused

Reader = Callable[[bytes, Bounds], Iterator[Block]]

HEAD_BYTES: Final = 1024
_NAMES: Final = {
    "plain.read_text": "txt text log rst adoc asciidoc org tex",
    "markdown.read_markdown": "md markdown mdown mkd mdx",
    "markup.read_html": "html htm xhtml",
    "tables.read_csv": "csv tsv tab psv",
    "plain.read_json": "json ipynb geojson",
    "plain.read_json_lines": "jsonl ndjson",
    "plain.read_code": "py pyi js mjs cjs jsx ts tsx java kt kts scala groovy c h cc cpp cxx hh hpp cs go rs rb php pl "
    "pm lua r jl swift m mm dart ex exs erl hs ml fs clj lisp el vb sql sh bash zsh fish ps1 bat cmd mk cmake gradle "
    "dockerfile makefile proto graphql css scss sass less vue svelte xml xsd xsl yaml yml toml ini cfg conf tf nix vim "
    "asm s zig nim sol diff patch",
}
_BY_NAME: Final = {ending: reader for reader, endings in _NAMES.items() for ending in endings.split()}
_BINARY: Final = (
    (b"\x89PNG", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"GIF8", "a picture (GIF)"),
    (b"II*\x00", "a picture (TIFF)"),
    (b"MM\x00*", "a picture (TIFF)"),
    (b"BM", "a picture (BMP)"),
    (b"RIFF", "a picture, a sound or a film (RIFF)"),
    (b"\x1f\x8b", "compressed (gzip)"),
    (b"BZh", "compressed (bzip2)"),
    (b"\xfd7zXZ", "compressed (xz)"),
    (b"(\xb5/\xfd", "compressed (zstd)"),
    (b"7z\xbc\xaf", "an archive (7z)"),
    (b"Rar!", "an archive (rar)"),
    (b"\x7fELF", "a program (ELF)"),
    (b"MZ", "a program (EXE)"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"SQLite format 3", "a database (SQLite)"),
    (b"OggS", "a sound or a film (Ogg)"),
    (b"ID3", "a sound (MP3)"),
    (b"fLaC", "a sound (FLAC)"),
    (b"PAR1", "a table (Parquet)"),
)
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_HTML: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype html|html)\b", re.IGNORECASE | re.DOTALL
)


def read(content: bytes, filename: str, bounds: Bounds) -> Iterator[Block]:
    """The file's blocks. Raises `Refused`."""
    if not content:
        raise Refused("invalid_file", "The file is empty: it has 0 bytes.")
    return reader(kind(content, filename))(content, bounds)


def reader(named: str) -> Reader:
    """The function of a module here, which is imported only now."""
    module, _, function = named.partition(".")
    found: Reader = getattr(importlib.import_module(f"antiphon.vectors.readers.{module}"), function)
    return found


def kind(content: bytes, filename: str) -> str:
    """The module and function that read a file. Raises `Refused` for a kind that none reads."""
    head = content[:HEAD_BYTES]
    if head.lstrip().startswith(b"%PDF-") or (b"%PDF-" in head and b"\x00" in head):
        return "pdf.read_pdf"
    if head.startswith(b"PK\x03\x04"):
        return "zipped.read_zipped"
    if head.startswith(b"{\\rtf"):
        return "rtf.read_rtf"
    if head.startswith(_OLE):
        raise _older(content)
    for mark, what in _BINARY:
        if head.startswith(mark) and (b"\x00" in head or not mark.isascii()):
            raise Refused("unsupported_file", f"The file is {what}, which has no text that can be read.")
    if _HTML.match(head):
        return "markup.read_html"
    return _BY_NAME.get(filename.rpartition(".")[2].lower(), "plain.read_text")


def _older(content: bytes) -> Refused:
    """An OLE file: what office programs wrote until 2007, and today around what is encrypted."""
    if "EncryptedPackage".encode("utf-16-le") in content:
        return Refused(
            "invalid_file", "The file is an encrypted office document: it cannot be read without its password."
        )
    return Refused(
        "unsupported_file", "The file is of the office format of before 2007; save it as DOCX, XLSX, PPTX or PDF."
    )
