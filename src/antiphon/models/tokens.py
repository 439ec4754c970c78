"""How many tokens a model request has, as an estimate.

Exact for no model, close for OpenAI's: its vocabulary `o200k_base`, three tokens of framing a message as its cookbook
counts them, functions as the JSON they are sent as, images at the price of a picture of one mebipixel. Other
vocabularies of this decade lie within some 15 %. Thinking that is not sent back is not counted.
"""

import functools
from typing import TYPE_CHECKING, Any, Final

import msgspec

from antiphon.models.base import ModelRequest
from antiphon.models.chat_codec import chat_request
from antiphon.presets import OPENAI_QUIRKS

if TYPE_CHECKING:
    from splintr import AnyTokenizer

VOCABULARY: Final = "o200k_base"
MESSAGE_TOKENS: Final = 3
CALL_TOKENS: Final = 3
ANSWER_TOKENS: Final = 3
"""What opens the answer."""
FUNCTIONS_TOKENS: Final = 9
"""What introduces the functions, once."""
FUNCTION_TOKENS: Final = 7
IMAGE_TOKENS: Final = {"low": 85, "auto": 765, "high": 765}
BASE64_CHARS_PER_TOKEN: Final = 16
"""Audio and files: some 12 bytes a token."""
CACHED_TEXTS_MAX: Final = 10_000
SLICE_CHARS: Final = 100_000


def count_tokens(request: ModelRequest) -> int:
    """The tokens of a request's whole input: instructions, items, functions and format.

    Takes some 20 ns a character (the first call 60 ms more): for a thread where a text may be long.
    Raises `Unsupported` for content that no chat model can be sent.
    """
    body = chat_request(request, OPENAI_QUIRKS)
    total = ANSWER_TOKENS + sum(_message(message) for message in body["messages"])
    if tools := body.get("tools"):
        total += FUNCTIONS_TOKENS + sum(FUNCTION_TOKENS + count_text(_json(tool["function"])) for tool in tools)
    if form := body.get("response_format", {}).get("json_schema"):
        total += count_text(_json(form))
    return total


def _message(message: dict[str, Any]) -> int:
    total = MESSAGE_TOKENS + 1  # its role is one token
    content = message["content"]
    total += count_text(content) if isinstance(content, str) else sum(_part(part) for part in content)
    for call in message.get("tool_calls", ()):
        total += CALL_TOKENS + count_text(call["function"]["name"]) + count_text(call["function"]["arguments"])
    return total


def _part(part: dict[str, Any]) -> int:
    match part:
        case {"type": "text", "text": text}:
            return count_text(text)
        case {"type": "image_url", "image_url": image}:
            return IMAGE_TOKENS[image.get("detail", "auto")]
        case {"type": "input_audio", "input_audio": {"data": data}} | {"type": "file", "file": {"file_data": data}}:
            return len(data) // BASE64_CHARS_PER_TOKEN
    return 0


def count_text(text: str, vocabulary: str = VOCABULARY) -> int:
    """The tokens of a text alone; `llama3`, `cl100k_base` and others are known beside OpenAI's `o200k_base`.

    In slices: the tokenizer holds the interpreter, and at a cut some token is counted twice at most.
    """
    known = tokenizer(vocabulary)
    slices = range(0, len(text), SLICE_CHARS)
    return sum(len(known.encode_ordinary(text[start : start + SLICE_CHARS])) for start in slices)


def tokenizer(vocabulary: str = VOCABULARY) -> "AnyTokenizer":
    """The tokenizer of a vocabulary, which has forgotten what it has seen if that is much."""
    known = _tokenizer(vocabulary)
    if known.cache_len > CACHED_TEXTS_MAX:
        known.clear_cache()
    return known


@functools.cache
def _tokenizer(vocabulary: str) -> "AnyTokenizer":
    """The vocabulary comes with the package: 30 MB and 60 ms, so not before it is needed."""
    from splintr import Tokenizer

    return Tokenizer.from_pretrained(vocabulary)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
