"""From a request to a run: history, model, tools. Everything that can be the client's fault is decided here.

After `prepare` returns, what goes wrong is an event of the response and no longer an HTTP error.
"""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from antiphon.engine.cite import citable
from antiphon.engine.compact import (
    threshold_of,
    whole_summary_request,
)
from antiphon.engine.context import UNSERVED_ITEMS, accepted, context_of, for_model, history_of, unserved
from antiphon.engine.dispatch import preludes
from antiphon.engine.run import Caller, Engine, Run
from antiphon.engine.written_files import written_files
from antiphon.errors import DECODE_ERRORS, InvalidRequest, NotFound, Unsupported, misfit
from antiphon.ids import child_id
from antiphon.models.base import Choice, ModelRequest
from antiphon.tools.base import Caller as ToolCaller
from antiphon.tools.base import Offer
from antiphon.tools.offers import choice_of, kind_of, loaded, named_kind, offers, visible
from antiphon.wire.items import (
    CompactionTrigger,
    InputText,
    Item,
    LongText,
    Message,
    decode_items,
)
from antiphon.wire.items_complete import complete_items
from antiphon.wire.responses import (
    ConversationRef,
    CreateResponse,
    JsonObjectFormat,
    JsonSchemaFormat,
    PlainFormat,
    Response,
    TextConfig,
)
from antiphon.wire.tools import UNSERVED_TOOLS, Tool

FORWARDED = (
    "service_tier",
    "safety_identifier",
    "user",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
)
"""Parameters that are handed to the model host by name, where it knows them."""
UNOBEYED = ("moderation", "access_programs", "image")
"""Parameters that are accepted and not obeyed; the response's warnings name them."""
_tool_types = msgspec.json.Decoder(list[dict[str, Raw]])
_tools = msgspec.json.Decoder(list[Tool])
_text = msgspec.json.Decoder(LongText)
_FIRST_INPUT = 0x8000  # input items' ids count from here, output items' from 0: both derive from the response's id


async def prepare(engine: Engine, create: CreateResponse, caller: Caller) -> Run:
    """The run that a request asks for.

    Raises `ApiError`s only: `InvalidRequest` and its kin for what the request says, `NotFound` for a model, response,
    conversation or item that is not there, `Conflict` while another turn runs on the conversation.
    """
    if not create.model:
        raise InvalidRequest("The parameter 'model' is required.", param="model", code="missing_required_parameter")
    _check_together(create)
    declared = await _declared(engine, create, caller)
    tools, offered = declared.tools, declared.offers
    await _check_tools(engine, declared, caller)
    given, triggered = await _input(engine, create, caller)
    resolved = await engine.catalog.resolve(create.model, caller.access)
    response_id = engine.new_id("resp", caller.seed)
    added = complete_items(given, _input_ids(response_id))
    conversation = _conversation_id(create)
    async with AsyncExitStack() as undo:
        if conversation is not None:
            await engine.conversations.claim(caller.owner, conversation, response_id, worker=engine.runs.worker)
            undo.push_async_callback(engine.conversations.release, caller.owner, conversation, response_id)
        history = await _history(engine, create, caller)
        context, unanswered = context_of(engine, history, added)
        brought = loaded(context, offered, engine.tools)
        offered |= brought.offers()
        seen = visible(offered, brought.found)
        choice = choice_of(create.tool_choice, seen, later=_later(engine, tools), absent=declared.absent)
        request = _model_request(create, resolved.model, for_model(engine, context), offered=seen, choice=choice)
        request = await engine.filled(request, resolved.host, owner=caller.owner, access=caller.access, added=added)
        if triggered:
            whole_summary_request(request, engine.compaction_prompt)  # refuses what cannot be compacted
        else:
            _check_answerable(create, context, unanswered)
        threshold = threshold_of(create.context_management or (), resolved.info.context_window)
        left_out = [*resolved.provider.left_out(request), *declared.left_out]
        if create.context_management and threshold is None:
            left_out.append("context_management.compact_threshold")
        run = Run(
            response=_begun(engine, create, response_id, tools=tools, left_out=left_out),
            owner=caller.owner,
            host=resolved.host,
            access=replace(caller.access, replay=replace(caller.access.replay, origin=response_id)),
            request=request,
            offers=offered,
            input=tuple(added),
            conversation=conversation,
            sealed="reasoning.encrypted_content" in (create.include or ()),
            include=tuple(create.include or ()),
            citable=citable(context),
            loaded=brought,
            written=written_files(context),
            preludes=preludes(engine.tools, tools, context, added=added),
            secrets=declared.secrets,
            warnings=_warnings(create, left_out, strict=engine.strict),
            compact_threshold=threshold,
            compact_only=triggered,
        )
        undo.pop_all()
    return run


async def prepare_count(engine: Engine, create: CreateResponse, caller: Caller) -> ModelRequest:
    """What the model would be sent, to count its tokens. Nothing is claimed or stored. Raises as `prepare` does."""
    _check_together(create)
    declared = await _declared(engine, create, caller)
    offered = declared.offers
    added = complete_items((await _input(engine, create, caller))[0], _input_ids("resp_0"))
    history = await _history(engine, create, caller)
    resolved = await engine.catalog.resolve(create.model, caller.access) if create.model else None
    host, model = (resolved.host, resolved.model) if resolved else ("", "")
    context = [*history, *added]
    brought = loaded(context, offered, engine.tools)
    seen = visible(offered | brought.offers(), brought.found)
    choice = choice_of(create.tool_choice, seen, later=_later(engine, declared.tools), absent=declared.absent)
    request = _model_request(create, model, for_model(engine, context), offered=seen, choice=choice)
    return await engine.filled(request, host, owner=caller.owner, access=caller.access, added=added)


async def prepare_compaction(
    engine: Engine, create: CreateResponse, caller: Caller, *, response_id: str
) -> tuple[str, ModelRequest]:
    """The host, and the context that is to be compacted; calls may await their outputs. Raises as `prepare` does."""
    added = complete_items((await _input(engine, create, caller))[0], _input_ids(response_id))
    resolved = await engine.catalog.resolve(create.model or "", caller.access)
    history = await history_of(engine, caller.owner, None, previous=create.previous_response_id)
    context, _ = context_of(engine, history, added)
    request = _model_request(create, resolved.model, for_model(engine, context), offered={}, choice=None)
    return resolved.host, await engine.filled(
        request, resolved.host, owner=caller.owner, access=caller.access, added=added
    )


# ---------------------------------------------------------------- the request by itself


def _check_together(create: CreateResponse) -> None:
    if create.conversation is not None and create.previous_response_id is not None:
        message = "'conversation' and 'previous_response_id' exclude each other: give one of them."
        raise InvalidRequest(message, param="previous_response_id", code="mutually_exclusive_parameters")
    if create.stream_options is not None and not create.stream:
        message = "'stream_options' is only allowed when 'stream' is true."
        raise InvalidRequest(message, param="stream_options")
    if create.prompt is not None:
        message = f"Prompt with id {create.prompt.id!r} not found: this server keeps no prompt templates."
        raise NotFound(message, param="prompt", code="prompt_not_found")
    if create.background and create.store is False:
        raise InvalidRequest("A background response must be stored: 'store' cannot be false.", param="store")


def decode_tools(raw: Raw, most: int) -> list[Tool]:
    """The request's tools. Raises `Unsupported` naming a kind that is known but not served, `InvalidRequest` else."""
    data = bytes(raw)
    if data in (b"[]", b"null"):
        return []
    try:
        given = _tool_types.decode(data)
    except DECODE_ERRORS as error:
        raise misfit(error, "tools") from error
    if len(given) > most:
        message = f"At most {most} tools are allowed, not {len(given)}."
        raise InvalidRequest(message, param="tools", code="array_above_max_length")
    for index, tool in enumerate(given):
        kind = bytes(tool.get("type", Raw(b"null"))).strip(b'"').decode("utf-8", "replace")
        if kind in UNSERVED_TOOLS:
            message = f"The tool {kind!r} is not served by this server."
            raise Unsupported(message, param=f"tools[{index}].type", code="unsupported_tool")
    try:
        return _tools.decode(data)
    except DECODE_ERRORS as error:
        raise misfit(error, "tools") from error


class Declared(Struct, frozen=True, kw_only=True):
    """The tools of a request as they may be stored and shown, without what nobody could run, and how models see them.

    `secrets` are what was in them, by their place here. `places` are those that they have in the request. `absent` says
    of the kinds that were left out why, and `left_out` what a client is told of each.
    """

    tools: list[Tool]
    offers: dict[str, Offer]
    secrets: Mapping[int, Mapping[str, Any]]
    places: tuple[int, ...]
    absent: Mapping[str, Unsupported] = {}
    left_out: tuple[str, ...] = ()


async def _declared(engine: Engine, create: CreateResponse, caller: Caller) -> Declared:
    """The request's tools. Raises as `decode_tools` and `offers`, of tools that are left out as well."""
    given = decode_tools(create.tools, engine.limits.tools_max)
    absent = {} if engine.strict else await _absent(engine, given, caller)
    if not absent:
        return _declaration(engine, given, places=range(len(given)))
    offers(given, engine.tools)
    places = [index for index in range(len(given)) if index not in absent]
    return replace(
        _declaration(engine, [given[index] for index in places], places=places),
        absent={named_kind(kind_of(given[index])): reason for index, reason in absent.items()},
        left_out=tuple(f"tools[{index}] ({reason.code})" for index, reason in absent.items()),
    )


async def _absent(engine: Engine, tools: Sequence[Tool], caller: Caller) -> dict[int, Unsupported]:
    asks, found = ToolCaller(owner=caller.owner, access=caller.access), dict[int, Unsupported]()
    for index, tool in enumerate(tools):
        served = engine.tools.get(kind_of(tool))
        if served is not None and (reason := await served.absent(tool, asks, f"tools[{index}]")) is not None:
            found[index] = reason
    return found


def _declaration(engine: Engine, tools: Sequence[Tool], *, places: Sequence[int]) -> Declared:
    shown, secrets = list(tools), dict[int, Mapping[str, Any]]()
    for index, tool in enumerate(tools):
        served = engine.tools.get(kind_of(tool))
        if served is not None:
            shown[index], secret = served.parted(tool)
            if secret:
                secrets[index] = secret
    return Declared(tools=shown, offers=offers(shown, engine.tools), secrets=secrets, places=tuple(places))


async def _check_tools(engine: Engine, declared: Declared, caller: Caller) -> None:
    """Raises for what the server's own tools name and is not there."""
    asks = ToolCaller(owner=caller.owner, access=caller.access, secrets=declared.secrets)
    for place, tool in zip(declared.places, declared.tools, strict=True):
        served = engine.tools.get(kind_of(tool))
        if served is not None:
            await served.check(tool, asks, f"tools[{place}]")


def _later(engine: Engine, tools: Sequence[Tool]) -> list[Tool]:
    """The tools whose functions are learned in the run."""
    return [tool for tool in tools if (served := engine.tools.get(kind_of(tool))) is not None and served.lists]


# ---------------------------------------------------------------- the context


async def _input(engine: Engine, create: CreateResponse, caller: Caller) -> tuple[list[Item], bool]:
    """The request's own items, with references resolved and what is encrypted checked; and whether to compact them.

    A trigger asks for something and says nothing: it is no part of the context.
    """
    data = bytes(create.input)
    try:
        if data.startswith(b'"'):
            text = _text.decode(data)
            return [Message(role="user", content=[InputText(text=text)])], False
        items = [] if data == b"null" else decode_items(data)
    except DECODE_ERRORS as error:
        raise misfit(error, "input") from error
    if len(items) > engine.limits.input_items_max:
        message = f"At most {engine.limits.input_items_max} input items are allowed, not {len(items)}."
        raise InvalidRequest(message, param="input", code="array_above_max_length")
    triggered = bool(items) and isinstance(items[-1], CompactionTrigger)
    items = items[:-1] if triggered else items
    for index, item in enumerate(items):
        _check_item(item, f"input[{index}]")
    return await accepted(engine, items, caller.owner, at="input"), triggered


def _check_item(item: Item, at: str) -> None:
    if isinstance(item, CompactionTrigger):
        raise InvalidRequest("A 'compaction_trigger' must be the last item of the input.", param=at)
    if isinstance(item, UNSERVED_ITEMS):
        raise unserved(item, at)


async def _history(engine: Engine, create: CreateResponse, caller: Caller) -> list[Item]:
    """What came before, which the caller alone may remember."""
    recent = caller.recent.get(create.previous_response_id or "")
    if recent is None:
        conversation, previous = _conversation_id(create), create.previous_response_id
        return await history_of(engine, caller.owner, conversation, previous=previous)
    return [*await history_of(engine, caller.owner, None, previous=recent.stored), *recent.items]


def _conversation_id(create: CreateResponse) -> str | None:
    ref = create.conversation
    return ref.id if isinstance(ref, ConversationRef) else ref


def _input_ids(response_id: str) -> Any:
    count = _FIRST_INPUT - 1

    def new(prefix: str) -> str:
        nonlocal count
        count += 1
        return child_id(response_id, prefix, count)

    return new


def _check_answerable(create: CreateResponse, context: Sequence[Item], unanswered: Sequence[str]) -> None:
    if not context and not create.instructions:
        message = "There is nothing to answer: neither 'input' nor 'instructions' nor an earlier turn."
        raise InvalidRequest(message, param="input", code="missing_required_parameter")
    if unanswered:
        message = f"No tool output found for function call {unanswered[0]}."
        raise InvalidRequest(message, param="input", code="tool_output_not_found")


# ---------------------------------------------------------------- what comes of it


def _begun(
    engine: Engine, create: CreateResponse, response_id: str, *, tools: list[Tool], left_out: Sequence[str]
) -> Response:
    conversation = _conversation_id(create)
    return Response(
        id=response_id,
        created_at=int(engine.clock()),
        status="queued" if create.background else "in_progress",
        background=bool(create.background),
        instructions=create.instructions,
        max_output_tokens=create.max_output_tokens,
        max_tool_calls=create.max_tool_calls,
        model=create.model or "",
        parallel_tool_calls=create.parallel_tool_calls is not False,
        previous_response_id=create.previous_response_id,
        conversation=msgspec.UNSET if conversation is None else ConversationRef(conversation),
        prompt_cache_key=create.prompt_cache_key,
        reasoning=create.reasoning,
        safety_identifier=create.safety_identifier,
        service_tier=create.service_tier if create.service_tier and "service_tier" not in left_out else "default",
        store=create.store is not False,
        temperature=1.0 if create.temperature is None else create.temperature,
        text=_text_config(create.text),
        tool_choice=create.tool_choice or "auto",
        tools=tools,
        top_logprobs=create.top_logprobs or 0,
        top_p=1.0 if create.top_p is None else create.top_p,
        presence_penalty=create.presence_penalty or 0.0,
        frequency_penalty=create.frequency_penalty or 0.0,
        truncation=create.truncation or "disabled",
        user=msgspec.UNSET if create.user is None else create.user,
        metadata=create.metadata or {},
    )


def _text_config(text: TextConfig | None) -> TextConfig:
    if text is None:
        return TextConfig(format=PlainFormat())
    return text if text.format is not None else replace(text, format=PlainFormat())


def _model_request(
    create: CreateResponse, model: str, items: list[Item], *, offered: Mapping[str, Offer], choice: Choice | None
) -> ModelRequest:
    form = create.text.format if create.text else None
    return ModelRequest(
        model=model,
        items=items,
        instructions=create.instructions,
        functions=tuple(offer.function for offer in offered.values()),
        choice=choice,
        parallel_tool_calls=create.parallel_tool_calls,
        max_output_tokens=create.max_output_tokens,
        temperature=create.temperature,
        top_p=create.top_p,
        presence_penalty=create.presence_penalty,
        frequency_penalty=create.frequency_penalty,
        top_logprobs=create.top_logprobs,
        logprobs=bool(create.top_logprobs) or "message.output_text.logprobs" in (create.include or ()),
        format=form if isinstance(form, JsonSchemaFormat | JsonObjectFormat) else None,
        verbosity=create.text.verbosity if create.text else None,
        reasoning=create.reasoning,
        extra={name: value for name in FORWARDED if (value := getattr(create, name)) is not None},
    )


def _warnings(create: CreateResponse, left_out: list[str], *, strict: bool) -> tuple[str, ...]:
    """What was asked for and is not obeyed, by parameter name. Raises `Unsupported` for the first if `strict`."""
    names = [name for name in UNOBEYED if getattr(create, name)] + left_out
    if create.reasoning is not None and (create.reasoning.summary or create.reasoning.generate_summary):
        names.append("reasoning.summary")
    names += [f"reasoning.{name}" for name in ("context", "mode") if getattr(create.reasoning, name, None)]
    if create.stream_options is not None and create.stream_options.include_obfuscation:
        names.append("stream_options.include_obfuscation")
    if names and strict:
        message = f"The parameter {names[0]!r} would not be obeyed for the model {create.model!r}."
        raise Unsupported(message, param=names[0])
    return tuple(names)
