"""A model request in the chat-completions dialect. Pure; how hosts depart from the dialect is data (`Quirks`).

The two dialects differ most in their history. Here a turn of the assistant is several items (reasoning, message,
calls); there it is one message, directly followed by one tool message a call. `_History` gathers the one into the
other: what the model said without hearing anything in between is one turn.

Roles and shapes are the oldest that say the same (`system` for instructions, a string for one text), since every host
knows those.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from antiphon.errors import Unsupported
from antiphon.models.base import Choice, Function, ModelRequest
from antiphon.presets import Quirks
from antiphon.wire.calls import Answer, Call, call_of, output_of
from antiphon.wire.items import (
    InputAudio,
    InputFile,
    InputPart,
    InputText,
    Item,
    McpCall,
    Message,
    MessagePart,
    OutputText,
    PlainText,
    Reasoning,
    ReasoningText,
    Refusal,
    SummaryText,
)
from antiphon.wire.responses import JsonObjectFormat, JsonSchemaFormat

Json = dict[str, Any]

_TEXTS = (InputText, OutputText, PlainText, SummaryText, ReasoningText)


def chat_request(request: ModelRequest, quirks: Quirks) -> Json:
    """The body of a streamed chat completion. Raises `Unsupported` for content that this host cannot be sent."""
    body: Json = {"model": request.model, "messages": chat_messages(request, quirks), "stream": True}
    if quirks.stream_usage:
        body["stream_options"] = {"include_usage": True}
    for key, value in (("temperature", request.temperature), ("top_p", request.top_p)):
        if value is not None:
            body[key] = value
    if request.max_output_tokens is not None:
        body[quirks.max_tokens_field] = request.max_output_tokens
    if request.functions:
        body |= _tools(request, quirks)
    if request.format is not None and (form := _response_format(request.format, quirks)):
        body["response_format"] = form
    body.update((key, value) for key, value in _optional(request).items() if key in quirks.accepts)
    return body


def left_out(request: ModelRequest, quirks: Quirks) -> list[str]:
    """The Responses API's names of the parameters that the client gave and this host does not take."""
    asked = _optional(request)
    if asked.get("service_tier") in ("auto", "default"):
        del asked["service_tier"]  # what a host without tiers does anyway
    names = [_PUBLIC_NAMES.get(key, key) for key in asked if key not in quirks.accepts]
    if request.functions and request.parallel_tool_calls is False and not quirks.parallel_tool_calls:
        names.append("parallel_tool_calls")
    must_call = request.functions and request.choice is not None and request.choice.mode == "required"
    if must_call and not (quirks.tool_choice and quirks.tool_choice_required):
        names.append("tool_choice")
    if isinstance(request.format, JsonObjectFormat) and not (quirks.json_object or quirks.json_schema):
        names.append("text.format")
    return names


_PUBLIC_NAMES = {"reasoning_effort": "reasoning.effort", "verbosity": "text.verbosity"}


def _optional(request: ModelRequest) -> Json:
    """Parameters that a host may not know, under the dialect's names."""
    given: Json = {
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "verbosity": request.verbosity,
        "reasoning_effort": request.reasoning.effort if request.reasoning else None,
        "logprobs": True if request.logprobs or request.top_logprobs else None,
        "top_logprobs": request.top_logprobs or None,
        **request.extra,
    }
    return {key: value for key, value in given.items() if value is not None}


# ---------------------------------------------------------------- tools and formats


def _tools(request: ModelRequest, quirks: Quirks) -> Json:
    choice = request.choice
    functions: Sequence[Function] = request.functions
    if choice is None:
        tools: Json = {}
    elif choice.mode == "none" and not quirks.tool_choice:
        return {}
    else:
        tools, functions = _choice(choice, functions, quirks)
        if not functions:
            return {}
    tools["tools"] = [_tool(function, quirks) for function in functions]
    if request.parallel_tool_calls is not None and quirks.parallel_tool_calls:
        tools["parallel_tool_calls"] = request.parallel_tool_calls
    return tools


def _choice(choice: Choice, functions: Sequence[Function], quirks: Quirks) -> tuple[Json, Sequence[Function]]:
    """The choice as this host takes it, and the functions to send: fewer, where it cannot be told to choose."""
    names = choice.names
    if names is not None and choice.mode != "none":
        if quirks.tool_choice and choice.mode == "required" and len(names) == 1 and quirks.tool_choice_function:
            return {"tool_choice": _named(names[0])}, functions
        if quirks.tool_choice and quirks.allowed_tools:
            allowed = {"mode": choice.mode, "tools": [_named(name) for name in names]}
            return {"tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}, functions
        functions = [function for function in functions if function.name in names]
    if not quirks.tool_choice or (choice.mode == "required" and not quirks.tool_choice_required):
        return {}, functions
    return {"tool_choice": choice.mode}, functions


def _named(name: str) -> Json:
    return {"type": "function", "function": {"name": name}}


def _tool(function: Function, quirks: Quirks) -> Json:
    shown: Json = {"name": function.name}
    if function.description is not None:
        shown["description"] = function.description
    shown["parameters"] = function.parameters or {"type": "object", "properties": {}}
    if function.strict is not None and quirks.strict_tools:
        shown["strict"] = function.strict
    return {"type": "function", "function": shown}


def _response_format(form: JsonObjectFormat | JsonSchemaFormat, quirks: Quirks) -> Json | None:
    if isinstance(form, JsonObjectFormat):
        if quirks.json_object:
            return {"type": "json_object"}
        if quirks.json_schema:
            return {"type": "json_schema", "json_schema": {"name": "object", "schema": {"type": "object"}}}
        return None
    if quirks.json_schema:
        schema: Json = {"name": form.name, "schema": form.schema}
        if form.description is not None:
            schema["description"] = form.description
        if form.strict:
            schema["strict"] = True
        return {"type": "json_schema", "json_schema": schema}
    return {"type": "json_object"} if quirks.json_object else None


def _schema_in_words(request: ModelRequest, quirks: Quirks) -> str | None:
    """The schema as an instruction, for hosts that take none: their JSON mode alone would not obey it."""
    if quirks.json_schema or not isinstance(request.format, JsonSchemaFormat):
        return None
    schema = msgspec.json.encode(request.format.schema).decode()
    return f"Answer with a JSON object that is valid for this JSON schema, and with nothing else:\n{schema}"


# ---------------------------------------------------------------- messages


def chat_messages(request: ModelRequest, quirks: Quirks) -> list[Json]:
    """Instructions and items as chat messages."""
    steps = [_step(item) for item in request.items]
    history = _History(steps, quirks)
    for text in (request.instructions, _schema_in_words(request, quirks)):
        if text is not None:
            history.messages.append({"role": "system", "content": text})
    for step in steps:
        history.add(step)
    history.end_turn()
    return history.messages


Step = Message | Reasoning | McpCall | Call | Answer
"""An item as this dialect sees it: all that clients execute are calls of functions and their answers."""


def _step(item: Item) -> Step | None:
    """None for kinds that mean nothing to a chat model."""
    if isinstance(item, (Message, Reasoning, McpCall)):
        return item
    return call_of(item) or output_of(item)


class _History:
    """Chat messages as they grow, and the assistant's turn that is still open."""

    def __init__(self, steps: Iterable[Step | None], quirks: Quirks) -> None:
        self.messages: list[Json] = []
        self._quirks = quirks
        self._thoughts: list[str] = []
        self._text: str | None = None
        self._calls: list[Call] = []
        # Answers by call, first in first out: some hosts count their calls anew in every turn, so ids may come again.
        self._answers: dict[str, deque[Answer]] = {}
        self._unpaired: Counter[str] = Counter()
        for step in steps:
            if isinstance(step, Answer):
                self._answers.setdefault(step.call_id, deque()).append(step)
            elif isinstance(step, Call):
                self._unpaired[step.call_id] += 1

    def add(self, step: Step | None) -> None:
        """Takes in the next step."""
        if isinstance(step, Message):
            self._message(step)
        elif isinstance(step, Call):
            self._calls.append(step)
        elif isinstance(step, Answer):
            self._answer(step)
        elif isinstance(step, Reasoning):
            self._reasoning(step)
        elif step is not None:
            self._mcp(step)

    def end_turn(self) -> None:
        """Writes the assistant's open turn, and what its calls gave right behind it."""
        if self._text is None and not self._calls:
            self._thoughts = []
            return
        message: Json = {"role": "assistant", "content": self._text or ""}
        if self._thoughts and self._quirks.reasoning_input:
            message[self._quirks.reasoning_input] = "\n".join(self._thoughts)
        self.messages.append(message)
        calls, self._calls, self._text, self._thoughts = self._calls, [], None, []
        if calls:
            message["tool_calls"] = [_tool_call(call) for call in calls]
            self._write_answers(calls)

    def _write_answers(self, calls: list[Call]) -> None:
        pictures: list[Json] = []
        for call in calls:
            waiting = self._answers.get(call.call_id)
            if waiting:
                message, others = self._tool_message(waiting.popleft())
                self.messages.append(message)
                pictures += others
        if pictures:
            self.messages.append({"role": "user", "content": pictures})

    def _message(self, item: Message) -> None:
        if item.role != "assistant":
            self.end_turn()
            role = "system" if item.role == "developer" and not self._quirks.developer_role else item.role
            self.messages.append({"role": role, "content": self._content(item.content)})
            return
        if self._text is not None:
            self.end_turn()
        self._text = item.content if isinstance(item.content, str) else _plain(item.content)

    def _reasoning(self, item: Reasoning) -> None:
        if self._text is not None and not self._calls:
            self.end_turn()
        self._thoughts += [part.text for part in item.content or item.summary]

    def _answer(self, answer: Answer) -> None:
        """An answer was written with its call. One that no call asked for stays where it is: the host shall judge."""
        self.end_turn()
        if self._unpaired[answer.call_id] > 0:
            self._unpaired[answer.call_id] -= 1
            return
        message, others = self._tool_message(answer)
        self.messages.append(message)
        if others:
            self.messages.append({"role": "user", "content": others})

    def _mcp(self, item: McpCall) -> None:
        call = Call(call_id=item.id or f"call_{len(self.messages)}", name=item.name, arguments=item.arguments or "{}")
        error = item.error if isinstance(item.error, str) or item.error is None else _dumps(item.error)
        output = item.output if item.output is not None else error or ""
        self._calls.append(call)
        self._answers.setdefault(call.call_id, deque()).appendleft(Answer(call_id=call.call_id, output=output))
        self.end_turn()

    # ------------------------------------------------------------ content

    def _tool_message(self, answer: Answer) -> tuple[Json, list[Json]]:
        """The tool message, and the parts that it cannot hold: a tool's answer is text in this dialect."""
        if isinstance(answer.output, str):
            return {"role": "tool", "tool_call_id": answer.call_id, "content": answer.output}, []
        parts = self._parts(answer.output)
        texts = [part for part in parts if part["type"] == "text"]
        others = [part for part in parts if part["type"] != "text"]
        content = texts if len(texts) > 1 and self._quirks.tool_parts else _joined(texts)
        return {"role": "tool", "tool_call_id": answer.call_id, "content": content}, others

    def _content(self, content: str | list[MessagePart]) -> str | list[Json]:
        if isinstance(content, str):
            return content
        parts = self._parts(content)
        # One text is the same as a string. A host without images often has a template that takes nothing else.
        if len(parts) > 1 and self._quirks.images:
            return parts
        return _joined(parts) if all(part["type"] == "text" for part in parts) else parts

    def _parts(self, parts: Sequence[MessagePart] | Sequence[InputPart]) -> list[Json]:
        return [shown for part in parts if (shown := self._part(part)) is not None]

    def _part(self, part: MessagePart) -> Json | None:
        if isinstance(part, _TEXTS):
            return {"type": "text", "text": part.text}
        if isinstance(part, Refusal):
            return {"type": "text", "text": part.refusal}
        if isinstance(part, InputAudio):
            if not self._quirks.audio:
                raise Unsupported("The host of this model takes no input_audio.", param="input")
            return {"type": "input_audio", "input_audio": msgspec.to_builtins(part.input_audio)}
        if isinstance(part, InputFile):
            return self._file(part)
        return self._image(part.image_url, part.detail)

    def _file(self, part: InputFile) -> Json:
        if part.file_data is None:
            raise Unsupported("An input_file needs `file_data` (base64) for the host of this model.", param="input")
        if not self._quirks.files:
            raise Unsupported("The host of this model takes no input_file.", param="input")
        return {"type": "file", "file": {"filename": part.filename or "file", "file_data": part.file_data}}

    def _image(self, url: str | None, detail: str | None) -> Json:
        if not self._quirks.images:
            raise Unsupported("The host of this model takes no images.", param="input")
        if url is None:
            raise Unsupported("An input_image needs `image_url` for the host of this model.", param="input")
        if not self._quirks.image_urls and not url.startswith("data:"):
            raise Unsupported("The host of this model takes images only as data URLs (data:image/...).", param="input")
        shown: Json = {"url": url}
        if detail is not None:
            shown["detail"] = "high" if detail == "original" else detail
        return {"type": "image_url", "image_url": shown}


def _plain(parts: Sequence[MessagePart]) -> str:
    """The assistant's words: all that this dialect lets an assistant have said."""
    words = (
        part.refusal if isinstance(part, Refusal) else part.text if isinstance(part, _TEXTS) else None for part in parts
    )
    return "\n".join(text for text in words if text is not None)


def _joined(texts: Sequence[Json]) -> str:
    return "\n".join(part["text"] for part in texts)


def _tool_call(call: Call) -> Json:
    return {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _dumps(value: object) -> str:
    return msgspec.json.encode(value).decode()
