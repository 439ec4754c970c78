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
        total += FUNCTIONS_TOKENS + sum(FUNCTION_TOKENS + text_tokens(_json(tool["function"])) for tool in tools)
    if form := body.get("response_format", {}).get("json_schema"):
        total += text_tokens(_json(form))
    return total


def _message(message: dict[str, Any]) -> int:
    total = MESSAGE_TOKENS + 1  # its role is one token
    content = message["content"]
    total += text_tokens(content) if isinstance(content, str) else sum(_part(part) for part in content)
    for call in message.get("tool_calls", ()):
        total += CALL_TOKENS + text_tokens(call["function"]["name"]) + text_tokens(call["function"]["arguments"])
    return total


def _part(part: dict[str, Any]) -> int:
    match part:
        case {"type": "text", "text": text}:
            return text_tokens(text)
        case {"type": "image_url", "image_url": image}:
            return IMAGE_TOKENS[image.get("detail", "auto")]
        case {"type": "input_audio", "input_audio": {"data": data}} | {"type": "file", "file": {"file_data": data}}:
            return len(data) // BASE64_CHARS_PER_TOKEN
    return 0


def text_tokens(text: str) -> int:
    """In slices: the tokenizer holds the interpreter, and at a cut some token is counted twice at most."""
    tokenizer = _tokenizer()
    if tokenizer.cache_len > CACHED_TEXTS_MAX:  # it keeps what it has seen
        tokenizer.clear_cache()
    slices = range(0, len(text), SLICE_CHARS)
    return sum(len(tokenizer.encode_ordinary(text[start : start + SLICE_CHARS])) for start in slices)


@functools.cache
def _tokenizer() -> "AnyTokenizer":
    """The tokenizer with its vocabulary, which comes with the package: 30 MB and 60 ms, so not before it is needed."""
    from splintr import Tokenizer

    return Tokenizer.from_pretrained(VOCABULARY)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
