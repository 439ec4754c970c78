"""A multipart form with one file, taken apart while it arrives: `python_multipart` finds the seams.

Starlette's own form parser gives a file as a whole, spooled into a temporary folder; here its bytes go where they are
to stay, and the client is not read faster than they get there.
"""

from collections.abc import AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from antiphon.errors import InvalidRequest

FIELDS_MAX = 16
FIELD_BYTES_MAX = 8 * 1024
"""Of all fields beside the file together."""


class Form:
    """The parts of a form. `fields` and `filename` are known as far as `content` was taken; None is: no file yet.

    Raises `InvalidRequest` for what is no such form.
    """

    def __init__(self, content_type: bytes, pieces: AsyncIterator[bytes], *, file: str = "file") -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InvalidRequest("The request body must be multipart/form-data.", code="invalid_content_type")
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._file = file
        self._pieces = pieces
        self._ready: list[bytes] = []
        self._name: str | None = None  # of the field that is being read; None: the file
        self._value = bytearray()
        self._header, self._header_text = bytearray(), bytearray()
        self._disposition = b""
        self._left = FIELD_BYTES_MAX
        self._ended = False
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_content,
                    "on_part_data": self._content,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _malformed(str(error)) from error

    async def begin(self) -> None:
        """Reads as far as the file's beginning, or to the end if there is none."""
        while self.filename is None and not self._ended and await self._more():
            pass

    async def content(self) -> AsyncIterator[bytes]:
        """The file's bytes; then reads what follows the file."""
        while True:
            ready, self._ready = self._ready, []
            for piece in ready:
                yield piece
            if self._ended or not await self._more():
                break
        async for _ in self._pieces:
            pass  # what stands after the end is nobody's

    async def _more(self) -> bool:
        piece = await anext(self._pieces, None)
        if piece is None:
            raise _malformed("it ends before its last boundary")
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _malformed(str(error)) from error
        return True

    # ------------------------------------------------------------ what the parser finds

    def _begin_part(self) -> None:
        self._disposition = b""
        self._value = bytearray()

    def _header_name(self, text: bytes, start: int, end: int) -> None:
        self._header += text[start:end]

    def _header_value(self, text: bytes, start: int, end: int) -> None:
        self._header_text += text[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._header_text)
        self._header, self._header_text = bytearray(), bytearray()

    def _begin_content(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or b"name" not in options:
            raise _malformed("a part has no name")
        name = _text(options[b"name"], "name")
        if name == self._file:
            if self.filename is not None:
                raise InvalidRequest(f"There must be one {name!r} only.", param=name)
            self._name = None
            # HTML's rule for quotes, which clients keep; nothing else is percent-encoded in a form.
            self.filename = _text(options.get(b"filename", b""), name).replace("%22", '"')
        elif name in self.fields:
            raise InvalidRequest(f"There must be one {name[:100]!r} only.", param=name[:100])
        elif len(self.fields) == FIELDS_MAX:
            raise InvalidRequest(f"The form has more than {FIELDS_MAX} fields beside the file.")
        else:
            self._name = name

    def _content(self, text: bytes, start: int, end: int) -> None:
        if self._name is None:
            self._ready.append(text[start:end])
            return
        self._left -= end - start
        if self._left < 0:
            shown = self._name[:100]
            raise InvalidRequest(f"The field {shown!r} is too long for a form with a file.", param=shown)
        self._value += text[start:end]

    def _end_part(self) -> None:
        if self._name is not None:
            self.fields[self._name] = _text(self._value, self._name)

    def _end(self) -> None:
        self._ended = True


def _malformed(why: str) -> InvalidRequest:
    return InvalidRequest(f"The request body is no valid multipart form: {why}.", code="invalid_form")


def _text(value: bytes | bytearray, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The field {name[:100]!r} is not valid UTF-8.", param=name[:100]) from error
