"""What of an item a client sees unless it asks for more. Pure."""

from collections.abc import Callable, Collection, Iterable

from msgspec.structs import replace

from antiphon.wire.items import Item, Message, OutputText, Reasoning
from antiphon.wire.responses import Includable
from antiphon.wire.shown import shown

LOGPROBS: Includable = "message.output_text.logprobs"
ENCRYPTED: Includable = "reasoning.encrypted_content"
Seal = Callable[[str], str]


def visible(item: Item, include: Collection[Includable], seal: Seal) -> Item:
    """The item without log probabilities, encrypted reasoning and search results, unless `include` names them.

    Reasoning that is stored open is sealed where its encrypted form is asked for. The other values of `include` are
    accepted and change nothing: what they name is always shown.
    """
    if isinstance(item, Message):
        return item if LOGPROBS in include else _without_logprobs(item)
    if isinstance(item, Reasoning):
        return _sealed(item, seal) if ENCRYPTED in include else _unsealed(item)
    return shown(item, include)


def all_visible(items: Iterable[Item], include: Collection[Includable], seal: Seal) -> list[Item]:
    """The items as a client sees them."""
    return [visible(item, include, seal) for item in items]


def _without_logprobs(item: Message) -> Message:
    parts = item.content
    if isinstance(parts, str) or not any(isinstance(part, OutputText) and part.logprobs for part in parts):
        return item
    shown = [replace(part, logprobs=[]) if isinstance(part, OutputText) else part for part in parts]
    return replace(item, content=shown)


def _sealed(item: Reasoning, seal: Seal) -> Reasoning:
    if item.encrypted_content is not None or not item.content:
        return item
    return replace(item, encrypted_content=seal("".join(part.text for part in item.content)))


def _unsealed(item: Reasoning) -> Reasoning:
    return item if item.encrypted_content is None else replace(item, encrypted_content=None)
