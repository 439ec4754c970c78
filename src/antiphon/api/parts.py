"""A multipart body as a whole: its parts, and the body again with some fields set.

For forms that go on to another host; of a file that stays, `form` takes the pieces as they come.
"""

import itertools
from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from antiphon.errors import InvalidRequest
from antiphon.exchange import field, multipart

PARTS_MAX: Final = 64


class Part(Struct, kw_only=True):
    """One part. `head` are its header lines as they came; `filename` is None of a field."""

    name: str = ""
    filename: str | None = None
    head: bytes = b""
    content: bytes = b""


def parts_of(content_type: bytes, body: bytes) -> list[Part]:
    """The parts of a multipart form. Raises `InvalidRequest` for what is none."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise InvalidRequest("The request body must be multipart/form-data.", code="invalid_content_type")
    parts: list[Part] = []
    head, content = bytearray(), bytearray()

    def begin() -> None:
        if len(parts) == PARTS_MAX:
            raise InvalidRequest(f"The form has more than {PARTS_MAX} parts.", code="invalid_form")
        head.clear()
        content.clear()
        parts.append(Part())

    def end() -> None:
        parts[-1].head, parts[-1].content = bytes(head), bytes(content)
        _name(parts[-1])

    try:
        parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": begin,
                "on_header_field": lambda text, start, stop: head.extend(text[start:stop]),
                "on_header_value": lambda text, start, stop: head.extend(b": " + text[start:stop]),
                "on_header_end": lambda: head.extend(b"\r\n"),
                "on_part_data": lambda text, start, stop: content.extend(text[start:stop]),
                "on_part_end": end,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise InvalidRequest(f"The request body is no valid multipart form: {error}.", code="invalid_form") from error
    return parts


def fields_of(parts: list[Part]) -> dict[str, str]:
    """The fields that are no files."""
    return {part.name: part.content.decode("utf-8", "replace") for part in parts if part.filename is None}


def form_of(parts: list[Part], fields: Mapping[str, str]) -> tuple[str, bytes]:
    """Content type and body of the same form with these fields in place of its own."""
    kept = [(part.head, part.content) for part in parts if part.name not in fields]
    return multipart([*kept, *itertools.starmap(field, fields.items())])


def _name(part: Part) -> None:
    for line in part.head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            _, options = parse_options_header(value.strip())
            part.name = options.get(b"name", b"").decode("utf-8", "replace")
            filename = options.get(b"filename")
            part.filename = None if filename is None else filename.decode("utf-8", "replace")
    if not part.name:
        raise InvalidRequest("The request body is no valid multipart form: a part has no name.", code="invalid_form")
