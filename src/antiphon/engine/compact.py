"""Compaction: a long context becomes a summary and what must stay word for word. Pure.

A compaction item is the state in which a conversation goes on. Sealed in it are the summary, which the model itself
made of all that went before, and the items that no summary can stand for: what system and developer said, calls that
await their outputs, and, where an answer is due, what it is due to. Of the items before it, the model sees nothing
more. Where a client asks for a compaction and for no answer (the compact endpoint, a trigger), the whole context is
summarised, and the user's messages stay standing outside, in front of the item.

In a run: `summary_request` says whether, and with what, to ask for a summary; `summary_in` reads it from what comes
back; `compacted` makes the item's content of it; `continued` is the request that is then made. The last one needs
nothing but that content, so a run that was interrupted in between goes on without asking again.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from antiphon.engine.run import Run
from antiphon.engine.seal import Sealer
from antiphon.errors import DECODE_ERRORS, InvalidRequest, Upstream
from antiphon.models.base import Choice, Compacted, Finish, ModelEvent, ModelRequest, Text, Tokens
from antiphon.models.tokens import count_tokens
from antiphon.wire.calls import call_of, output_of
from antiphon.wire.items import Compaction, InputText, Item, Message
from antiphon.wire.responses import ContextManagement

SUMMARY_ID: Final = "cmp_summary"
"""The id of the message in which a model sees the summary; it is in no store and on no wire."""
INTRODUCTION: Final = (
    "This is a summary of the conversation so far, made when it had grown too long; the messages that it stands for "
    "are no longer shown. Go on from where it ends, without mentioning it."
)
WINDOW_SHARE: Final = 0.75
"""The part of a model's context window that may be full, where the client names no threshold."""


class Kept(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is sealed in a compaction item. `after_users`: the user's messages before the item stand beside it."""

    summary: str
    items: list[Item]
    after_users: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Kept).decode


# ---------------------------------------------------------------- a context with compaction items


def seen(context: Sequence[Item], sealer: Sealer) -> list[Item]:
    """The context as a model sees it: what the latest compaction item stands for, and all that came after it."""
    for at in reversed(range(len(context))):
        item = context[at]
        if isinstance(item, Compaction):
            kept = opened(item.encrypted_content, sealer, "input")
            users = [item for item in context[:at] if is_user(item)] if kept.after_users else []
            return [*_shown(kept, users), *context[at + 1 :]]
    return list(context)


def opened(encrypted_content: str, sealer: Sealer, param: str) -> Kept:
    """What is in a compaction item. Raises `InvalidRequest` for what this server did not seal as one."""
    text = sealer.open(encrypted_content, param, "compaction")
    try:
        return _decode(text)
    except DECODE_ERRORS as error:  # sealed by a later release
        message = "The compacted context was made by a version of this server that keeps it in another form."
        raise InvalidRequest(message, param=param, code="invalid_encrypted_content") from error


def is_user(item: Item) -> bool:
    """Whether this is a message of the user's, and no summary."""
    return isinstance(item, Message) and item.role == "user" and item.id != SUMMARY_ID


def is_standing(item: Item) -> bool:
    """Whether this was said to the model for good."""
    return isinstance(item, Message) and item.role in ("system", "developer")


def _shown(kept: Kept, users: Sequence[Item]) -> list[Item]:
    """The summary is told as a user would: what a tool or a stranger said must not gain authority by being summarised.

    Whoever is to be obeyed comes first, since the templates of some models take system messages nowhere else.
    """
    told = f"{INTRODUCTION}\n\n{kept.summary}"
    summary = Message(id=SUMMARY_ID, role="user", content=[InputText(text=told)], status="completed")
    standing = [item for item in kept.items if is_standing(item)]
    return [*standing, *users, summary, *(item for item in kept.items if not is_standing(item))]


# ---------------------------------------------------------------- when, and what is asked


def threshold_of(entries: Iterable[ContextManagement], window: int | None) -> int | None:
    """The tokens from which on a context is compacted; None: never, or nobody knows the model's `window`."""
    fallback = None if window is None else int(window * WINDOW_SHARE)
    wanted = [entry.compact_threshold or fallback for entry in entries]
    return min((each for each in wanted if each is not None), default=None)


def summary_request(run: Run, prompt: str) -> ModelRequest | None:
    """What to ask the model for before the run's request; None while the context is short, or cannot be shortened.

    Counts tokens, so with a long context it is for a thread. Raises `InvalidRequest` where a client wants an empty
    context compacted.
    """
    if run.compact_only:
        return whole_summary_request(run.request, prompt)
    if run.compact_threshold is None:
        return None
    split = _split(run.request.items)
    if not split.shortens or count_tokens(run.request) <= run.compact_threshold:
        return None
    return _asking(run.request, split.shown, prompt)


def whole_summary_request(request: ModelRequest, prompt: str) -> ModelRequest:
    """The same for a context that is not to be answered, however short. Raises `InvalidRequest` if it is empty."""
    shown = _split(request.items, answering=False).shown
    if not shown:
        message = "There is nothing to compact: neither 'input' nor an earlier turn says anything."
        raise InvalidRequest(message, param="input", code="missing_required_parameter")
    return _asking(request, shown, prompt)


def _asking(request: ModelRequest, shown: Sequence[Item], prompt: str) -> ModelRequest:
    """The conversation as it was, with a last message: so a host that has its beginning in a cache reads it from there.

    What the client wants of the answer is not wanted of a summary. Functions stay declared, since calls are in the
    context, and are not to be called.
    """
    return ModelRequest(
        model=request.model,
        items=[*shown, Message(role="user", content=[InputText(text=prompt)])],
        instructions=request.instructions,
        functions=request.functions,
        choice=Choice(mode="none") if request.functions else None,
        reasoning=request.reasoning,
        extra=request.extra,
    )


class _Split(Struct, frozen=True, kw_only=True):
    """A context in two: what is shown to whoever summarises it, and what stays. Some items are in both."""

    shown: list[Item]
    kept: list[Item]
    shortens: bool


def _split(items: Sequence[Item], *, answering: bool = True) -> _Split:
    """What is being answered (`answering`) and calls without output stay, each call together with its output."""
    tail = _tail(items) if answering else len(items)
    away = set(range(tail, len(items)))
    for call, output in _pairs(items):
        if output is None or output in away:
            away.add(call)
    stays = away | {index for index, item in enumerate(items) if is_standing(item)}
    if tail < len(items) and not any(map(is_user, items[tail:])):
        stays.update([index for index in range(tail) if is_user(items[index])][-1:])
    gone = [item for index, item in enumerate(items) if index not in stays]
    return _Split(
        shown=[item for index, item in enumerate(items) if index not in away],
        kept=[items[index] for index in sorted(stays)],
        shortens=any(item.id != SUMMARY_ID for item in gone),
    )


def _tail(items: Sequence[Item]) -> int:
    """Where that begins which the model has yet to answer: what it was told last, with the calls that led to it."""
    start = len(items)
    while start and _is_told(items[start - 1]):
        start -= 1
    if any(output_of(item) is not None for item in items[start:]):
        while start and not _is_told(items[start - 1]) and items[start - 1].id != SUMMARY_ID:
            start -= 1
    return start


def _is_told(item: Item) -> bool:
    """Whether the model was told this, and did not say it itself."""
    return output_of(item) is not None or is_user(item) or is_standing(item)


def _pairs(items: Sequence[Item]) -> list[tuple[int, int | None]]:
    """Where each call stands, and where its output does. Ids may come again: the first call is answered first."""
    waiting: defaultdict[str, deque[int]] = defaultdict(deque)
    found: list[tuple[int, int | None]] = []
    for index, item in enumerate(items):
        if (call := call_of(item)) is not None:
            waiting[call.call_id].append(index)
        elif (answer := output_of(item)) is not None and waiting[answer.call_id]:
            found.append((waiting[answer.call_id].popleft(), index))
    return found + [(index, None) for calls in waiting.values() for index in calls]


# ---------------------------------------------------------------- what comes of it


def summary_in(events: Iterable[ModelEvent]) -> str:
    """The summary that a model made. Raises `Upstream` if it made none, or did not come to its end.

    A context that is cut off in the middle of a sentence is worse than an error: nobody would notice.
    """
    said = list(events)
    text = "".join(event.text for event in said if isinstance(event, Text)).strip()
    reason = next((event.reason for event in said if isinstance(event, Finish)), None)
    if not text or reason != "stop":
        ended = "said nothing" if reason == "stop" else f"ended with {reason!r}"
        raise Upstream(f"The context could not be compacted: the model was asked for a summary and {ended}.")
    return text


def spent_in(events: Iterable[ModelEvent]) -> Tokens:
    """What the host counted for it."""
    counted = [event for event in events if isinstance(event, Tokens)]
    return counted[-1] if counted else Tokens(0, 0)


def compacted(run: Run, summary: str, sealer: Sealer) -> Compacted:
    """The run's context, compacted: what its compaction item holds."""
    if run.compact_only:
        return Compacted(whole_sealed(run.request, summary, sealer))
    kept = as_sent(run.request, _split(run.request.items).kept)
    return Compacted(_sealed(Kept(summary=summary, items=kept), sealer))


def whole_sealed(request: ModelRequest, summary: str, sealer: Sealer) -> str:
    """The content of the item for a context that is not to be answered: the user's messages stand outside."""
    items = as_sent(request, _split(request.items, answering=False).kept)
    return _sealed(Kept(summary=summary, items=items, after_users=True), sealer)


def continued(request: ModelRequest, encrypted_content: str, sealer: Sealer) -> ModelRequest:
    """The same request on the context that was compacted to this; what was filled in for it still is."""
    filled = {item.id: item for item in request.items if item.id in request.as_sent}
    items = _shown(opened(encrypted_content, sealer, "input"), ())
    return replace(request, items=[filled.get(item.id, item) for item in items])


def as_sent(request: ModelRequest, items: Iterable[Item]) -> list[Item]:
    """Items of the request as the client sent them: a file's content is in no stored or sealed context."""
    return [request.as_sent.get(item.id or "", item) for item in items]


def _sealed(kept: Kept, sealer: Sealer) -> str:
    return sealer.seal(_encode(kept).decode(), "compaction")


def trimmed(request: ModelRequest) -> ModelRequest | None:
    """The request without the older half of its turns (`truncation: "auto"`); None if one turn is all there is.

    A turn begins with a user's message, so that calls stay with their outputs; system and developer messages stay, and
    so does the summary of what was compacted.
    """
    starts = [at for at, item in enumerate(request.items) if is_user(item)]
    if len(starts) < 2:
        return None
    cut = starts[(len(starts) + 1) // 2]
    kept = [item for item in request.items[:cut] if is_standing(item) or item.id == SUMMARY_ID]
    calls = {call.call_id for item in request.items[cut:] if (call := call_of(item)) is not None}
    rest = [item for item in request.items[cut:] if (answer := output_of(item)) is None or answer.call_id in calls]
    return replace(request, items=[*kept, *rest])
