"""The characters of a text file, whatever its encoding."""

import codecs
import re
from collections.abc import Iterator
from typing import Final

from antiphon.vectors.readers.refused import Refused

SAMPLE_BYTES: Final = 16 * 1024
"""How much is looked at to guess an encoding."""
UNREADABLE_MAX: Final = 0.001
"""Up to this part of a text may be broken UTF-8, and it still is UTF-8."""
CONTROL_MAX: Final = 0.01
"""Up to this part of a text may be control characters, and it still is one."""
GUESSED: Final = (  # noqa: SIM905 - read as words
    "cp1252 cp1251 cp1250 cp1253 cp1254 cp1255 cp1256 cp1257 cp874 koi8_r "
    "shift_jis euc_jp iso2022_jp gb18030 big5 euc_kr cp949"
).split()
"""The encodings of the world's older files; those of ISO 8859 are read as Microsoft's supersets of them."""
LATIN: Final = {
    "cp1252": "àâæçéèêëîïôœùûüÿ äöüß áéíñóúü áâãàçéêíóôõú àèéìòóù åäöæøé áðéíóúýþæö",
    "cp1250": "ąćęłńóśźż áčďéěíňóřšťúůýž áäčďéíĺľňóôŕšťúýž áéíóöőúüű ăâîşţ čćđšž äöüß",
    "cp1254": "çğıöşüâî",
    "cp1257": "ąčęėįšųūž āčēģīķļņšūž äõöüšž",
}
"""The Latin alphabets and what their languages, one after the other, have beside ASCII."""
_TYPOGRAPHY: Final = frozenset("\xa0\xad„“”‚‘’«»‹›–—…·•¿¡§°€£©®™½¼²³ªº")  # noqa: RUF001 - they are meant
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark its own begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROL: Final = bytes(set(range(32)) - set(b"\t\n\r\f\x1b")) + b"\x7f"
_ASCII: Final = bytes(range(128))
_NO_LETTERS: Final = bytes(each for each in range(256) if not bytes((each,)).isalpha())
_NO_HEBREW: Final = re.compile(rb"[\xc0-\xdf]|[\xea\xed\xef\xf3\xf5][\xe0-\xfa]")
"""Hebrew has no capitals, and five of its letters stand at a word's end only; Russian has the same bytes elsewhere."""
_FOREIGN_LINE: Final = re.compile(rb"[^\n]*[\x80-\xff][^\n]*\n?")


def decoded(content: bytes, declared: str | None = None) -> str:
    """The text. What a file declares itself counts where it is no Unicode.

    Raises `Refused` for bytes that are no text in any encoding known here.
    """
    for mark, name in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(name, "replace")
    head = content[:SAMPLE_BYTES]
    if b"\x00" in head:
        return _wide(content, head)
    if len(head.translate(None, _CONTROL)) < len(head) * (1 - CONTROL_MAX):
        raise _binary()
    if b"\x1b$" in content and (text := _japanese_mail(content)) is not None:
        return text
    try:
        return content.decode()
    except UnicodeDecodeError:
        return _nearly_utf8(content) or _as_declared(content, declared) or _guessed(content)


def _binary() -> Refused:
    return Refused("unsupported_file", "The file is of no kind that can be read: it is binary, and no known format.")


def _wide(content: bytes, head: bytes) -> str:
    """UTF-16 or UTF-32 without a mark: the zeros of its spaces and line ends stand at certain places."""
    zeros = [head[place::4].count(0) for place in range(4)]
    quarter = len(head) // 4
    if len(content) % 4 == 0 and zeros[2] >= quarter and zeros[3] >= quarter:
        name = "utf-32-le"
    elif len(content) % 4 == 0 and zeros[0] >= quarter and zeros[1] >= quarter:
        name = "utf-32-be"
    else:
        name = "utf-16-le" if zeros[1] + zeros[3] > zeros[0] + zeros[2] else "utf-16-be"
    try:
        text = content.decode(name)
    except UnicodeDecodeError as error:
        raise _binary() from error
    if sum(text.count(chr(each)) for each in _CONTROL) > len(text) * CONTROL_MAX:
        raise _binary()
    return text


def _japanese_mail(content: bytes) -> str | None:
    """ISO-2022-JP switches by escape sequences and is ASCII otherwise."""
    try:
        return content.decode("iso2022_jp")
    except UnicodeDecodeError:
        return None


def _nearly_utf8(content: bytes) -> str | None:
    """UTF-8 in which a few bytes were damaged; None where it is something else."""
    text = content.decode("utf-8", "replace")
    foreign = len(content.translate(None, _ASCII))
    lost = text.count("\ufffd")
    return text if lost <= 1 + len(text) * UNREADABLE_MAX and lost * 10 < foreign else None


def _as_declared(content: bytes, declared: str | None) -> str | None:
    try:
        return content.decode(declared) if declared else None
    except (LookupError, ValueError):  # no encoding, or another
        return None


def _guessed(content: bytes) -> str:
    from charset_normalizer import from_bytes

    sample = b"".join(_sample(content))
    latin = max(LATIN, key=lambda each: _fitness(sample, each))
    plain = len(sample.translate(None, _NO_LETTERS))
    if plain * 2 >= len(sample.translate(None, _ASCII)) and _fitness(sample, latin) == 1:
        return content.decode(latin, "replace")  # that library needs more than a few words
    best = from_bytes(sample, cp_isolation=[each for each in GUESSED if plain or each not in LATIN]).best()
    if best is None:
        raise Refused("unsupported_file", "The file's text is in no encoding that is known here; UTF-8 always is.")
    name = best.encoding
    if name in LATIN:  # of which that library takes any where it should look at their letters
        name = latin
    elif name == "cp1251" and not _NO_HEBREW.search(sample):
        name = "cp1255"
    return content.decode(name, "replace")


def _fitness(sample: bytes, name: str) -> float:
    """Which part of what is not ASCII are letters of the language that has most of them."""
    letters = [each for each in sample.decode(name, "replace").lower() if each > "\x7f" and each not in _TYPOGRAPHY]
    return max(sum(each in known for each in letters) for known in LATIN[name].split()) / (len(letters) or 1)


def _sample(content: bytes) -> Iterator[bytes]:
    """The lines that tell something: those that are not ASCII."""
    room = SAMPLE_BYTES
    for found in _FOREIGN_LINE.finditer(content):
        yield found[0][:room]
        room -= len(found[0])
        if room <= 0:
            return
