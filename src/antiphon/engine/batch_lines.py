"""Lines of a batch: what the input must be, what an answer becomes in the output, and when to ask again. Pure."""

import hashlib
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from msgspec import Raw, Struct

from antiphon.errors import DECODE_ERRORS
from antiphon.stores.batches import Result
from antiphon.wire.batches import (
    Answered,
    BatchError,
    BatchUsage,
    CachedTokens,
    LineAnswer,
    LineError,
    LineUsage,
    OutputLine,
    ReasoningTokens,
    UsageDetails,
)

NEEDED: Final[dict[str, str]] = {
    "/v1/responses": "",
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/v1/embeddings": "input",
}
"""The endpoints that batches may use, and what a body needs there beside a model."""
RETRIED: Final = frozenset({409, 429, 502, 503, 504})
"""Answers that another time may be others: a conversation is in use, the host is busy, away, or broke off."""

_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, Raw])
_text = msgspec.json.Decoder(str)
_answered = msgspec.json.Decoder(Answered)


class Line(Struct, frozen=True, kw_only=True):
    """A request of the input; `number` counts the file's lines from 1."""

    number: int
    custom_id: str
    model: str
    body: bytes


class Reply(Struct, frozen=True, kw_only=True):
    """What a line was answered."""

    status: int
    body: bytes
    request_id: str
    retry_after_s: float = 0.0


async def numbered(pieces: AsyncIterator[bytes], bytes_max: int) -> AsyncIterator[tuple[int, bytes]]:
    """The lines of a file by number, blank ones left out. Of one that is too long, only a beginning that is too."""
    number, held = 1, b""
    async for piece in pieces:
        *lines, rest = piece.split(b"\n")
        for line in lines:
            whole, held = held + line, b""
            if whole.strip():
                yield number, whole
            number += 1
        if len(held) <= bytes_max:
            held += rest
    if held.strip():
        yield number, held


def parse(number: int, raw: bytes, endpoint: str) -> Line | BatchError:
    """A line of the input, or the first thing that is wrong with it."""
    try:
        str(raw, "utf-8")
        given = _members.decode(raw)
    except msgspec.ValidationError:
        return _error(number, "invalid_request", "Each line must be a JSON object.")
    except DECODE_ERRORS:
        return _error(number, "invalid_json_line", "This line is not parseable as valid JSON.")
    for name in ("custom_id", "method", "url", "body"):
        if name not in given:
            return _error(number, "missing_required_parameter", f"Missing required parameter: '{name}'.", param=name)
    texts = {name: _string(given[name]) or "" for name in ("custom_id", "method", "url")}
    for name, text in texts.items():
        if not text:
            return _error(number, "invalid_request", f"'{name}' must be a string that is not empty.", param=name)
    if texts["method"] != "POST":
        return _error(
            number, "invalid_method", f"The method must be POST, not {texts['method'][:40]!r}.", param="method"
        )
    if texts["url"] != endpoint:
        message = f"The URL must be the batch's endpoint {endpoint!r}, not {texts['url'][:100]!r}."
        return _error(number, "invalid_url", message, param="url")
    return _parse_body(number, texts["custom_id"], given["body"], endpoint=endpoint)


def _parse_body(number: int, custom_id: str, raw: Raw, *, endpoint: str) -> Line | BatchError:
    try:
        body = _members.decode(raw)
    except DECODE_ERRORS:
        return _error(number, "invalid_request", "'body' must be a JSON object.", param="body")
    for name in ("model", NEEDED[endpoint]):
        if name and name not in body:
            return _error(number, "invalid_request", f"The body has no {name!r}.", param=f"body.{name}")
    model = _string(body["model"])
    if not model:
        return _error(number, "invalid_request", "'model' must be a string that is not empty.", param="body.model")
    for name, code in (("stream", "streaming_unsupported"), ("background", "background_unsupported")):
        if bytes(body.get(name, b"false")) not in (b"false", b"null"):
            return _error(number, code, f"A request of a batch cannot have {name!r}.", param=f"body.{name}")
    return Line(number=number, custom_id=custom_id, model=model, body=bytes(raw))


def _string(raw: Raw) -> str | None:
    try:
        return _text.decode(raw)
    except DECODE_ERRORS:
        return None


def _error(line: int, code: str, message: str, *, param: str | None = None) -> BatchError:
    return BatchError(code=code, message=message, line=line, param=param)


# ---------------------------------------------------------------- results


def result_of(batch_id: str, line: Line, reply: Reply) -> Result:
    """What an answer becomes in the output file, or in the error file if it is an error."""
    answer = LineAnswer(status_code=reply.status, request_id=reply.request_id, body=_one_line(reply.body))
    failed = not 200 <= reply.status < 300
    output = OutputLine(id=line_id(batch_id, line.number), custom_id=line.custom_id, response=answer)
    usage = BatchUsage() if failed else usage_of(reply.body)
    return Result(seq=line.number, failed=failed, body=_encode(output) + b"\n", usage=usage)


def unanswered(batch_id: str, seq: int, custom_id: str, *, error: LineError) -> Result:
    """What becomes of a line that was not carried out."""
    output = OutputLine(id=line_id(batch_id, seq), custom_id=custom_id, error=error)
    return Result(seq=seq, failed=True, body=_encode(output) + b"\n")


def line_id(batch_id: str, seq: int) -> str:
    """The id of a line's output: the same each time."""
    return f"batch_req_{batch_id.partition('_')[2]}{seq:05x}"


def attempt_id(batch_id: str, custom_id: str, attempt: int) -> str:
    """Names an attempt at a line: the same whoever makes it, a process that follows another one too.

    An attempt that was answered with an error is followed by one that has another name.
    """
    return hashlib.sha256(b"%b\n%d\n%b" % (batch_id.encode(), attempt, custom_id.encode())).hexdigest()


def usage_of(body: bytes) -> BatchUsage:
    """The tokens that an answer speaks of; none where it cannot be understood."""
    try:
        usage = _answered.decode(body).usage or LineUsage()
    except DECODE_ERRORS:
        return BatchUsage()
    given = usage.input_tokens_details or usage.prompt_tokens_details or UsageDetails()
    made = usage.output_tokens_details or usage.completion_tokens_details or UsageDetails()
    input_tokens = usage.input_tokens or usage.prompt_tokens or 0
    output_tokens = usage.output_tokens or usage.completion_tokens or 0
    return BatchUsage(
        input_tokens=input_tokens,
        input_tokens_details=CachedTokens(cached_tokens=given.cached_tokens or 0),
        output_tokens=output_tokens,
        output_tokens_details=ReasoningTokens(reasoning_tokens=made.reasoning_tokens or 0),
        total_tokens=input_tokens + output_tokens,
    )


def _one_line(body: bytes) -> Raw:
    """JSON without line breaks; what is no JSON, as a string."""
    try:
        return Raw(msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body)
    except msgspec.DecodeError:
        return Raw(_encode(body.decode("utf-8", "replace")))
