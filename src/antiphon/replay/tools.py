"""What can be done to recordings beside playing them: clean them of secrets, convert them, cut one response out."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from antiphon.errors import InvalidRequest, NotFound
from antiphon.exchange import Outgoing
from antiphon.replay import canonical, llama_stack, recording, redact
from antiphon.replay.entries import ANTIPHON, LLAMA_STACK, Entry
from antiphon.replay.library import Library, wanted_from
from antiphon.replay.recording import Answer, Exchange, Scenario, StoredExchange, StoredScenario


class Extra(Struct, frozen=True, kw_only=True):
    """What to take out beside what is always taken out: patterns in texts, and headers of answers by name."""

    patterns: tuple[re.Pattern[str], ...] = ()
    headers: frozenset[str] = frozenset()


NOTHING_MORE = Extra()


# ---------------------------------------------------------------- scrub


def scrub(directory: Path, extra: Extra = NOTHING_MORE) -> list[Path]:
    """Takes secrets out of every recording below `directory`; returns the files that had any. A second time: none."""
    changed = []
    for file in sorted(directory.rglob("*.json")):
        if llama_stack.FILE_NAME.fullmatch(file.name):
            dirty = _scrub_llama_stack(file, extra)
        elif not file.name.startswith(".") and recording.is_scenario(file.read_bytes()):
            dirty = _scrub_own(file, extra)
        else:
            dirty = False
        if dirty:
            changed.append(file)
    return changed


def _scrub_own(file: Path, extra: Extra) -> bool:
    stored = recording.read_scenario(file)
    exchanges = [_exchange(each) for each in stored.exchanges]
    clean = [_clean(each, extra) for each in exchanges]
    if clean == exchanges:
        return False
    recording.write_scenario(file, _scenario(stored, clean))
    return True


def _clean(exchange: Exchange, extra: Extra) -> Exchange:
    request, answer = exchange.request, exchange.answer
    pieces = redact.pieces([frame.data for frame in answer.frames], extra.patterns)
    return msgspec.structs.replace(
        exchange,
        request=msgspec.structs.replace(
            request,
            url=redact.url(request.url, extra.patterns),
            headers=redact.headers(request.headers, redact.REQUEST_HEADERS),
            body=redact.json(request.body, extra.patterns),
        ),
        answer=msgspec.structs.replace(
            answer,
            headers=redact.headers(answer.headers, redact.ANSWER_HEADERS - extra.headers),
            frames=recording.frames_from(pieces, [frame.at_ms for frame in answer.frames]),
            message=redact.text(answer.message, extra.patterns),
        ),
    )


def _scrub_llama_stack(file: Path, extra: Extra) -> bool:
    """The same for Llama Stack's files. If a request changes, so does the digest, and with it the file's name."""
    whole = json.loads(file.read_bytes())
    clean = dict(whole)
    for part in ("request", "response"):
        clean[part] = redact.json(whole.get(part), extra.patterns)
    if isinstance(chunks := (clean["response"] or {}).get("body"), list):
        clean["response"]["body"] = redact.deltas(chunks, extra.patterns)
    if clean == whole:
        return False
    target = file
    before, after = whole["request"], clean["request"]
    if before != after and _digest(before, whole.get("test_id")) in file.name:
        target = file.with_name(
            file.name.replace(_digest(before, whole.get("test_id")), _digest(after, whole.get("test_id")))
        )
    recording.write_whole(target, json.dumps(clean, indent=2) + "\n")
    if target != file:
        file.unlink()
    return True


def _digest(request: dict[str, Any], test_id: str | None) -> str:
    path = "/" + request.get("url", "").partition("://")[2].partition("/")[2]
    return llama_stack.request_digest(request.get("method", "POST"), path, request.get("body"), test_id=test_id)


# ---------------------------------------------------------------- import and export


def import_llama_stack(source: Path, target: Path) -> list[Scenario]:
    """Converts Llama Stack's recordings: one scenario for each test, and one with each host's models for all."""
    library = Library.open(source)
    if not any(entry.format == LLAMA_STACK for entry in library.entries):
        raise InvalidRequest(f"{source} has no recording in Llama Stack's format.")
    grouped: dict[str | None, list[Exchange]] = {
        None: [_model_list(library, host.base_url, host.name) for host in library.hosts()]
    }
    for entry in library.entries:
        if entry.format == LLAMA_STACK and entry.endpoint != "/models":
            grouped.setdefault(entry.test_id, []).append(_imported(entry))
    scenarios = [
        Scenario(name=test_id or llama_stack.COMMON, test_id=test_id, exchanges=tuple(exchanges))
        for test_id, exchanges in grouped.items()
        if exchanges
    ]
    for scenario in scenarios:
        recording.write_scenario(target / recording.file_name(scenario.name), scenario)
    return scenarios


def _imported(entry: Entry) -> Exchange:
    body = msgspec.json.encode(entry.body)
    headers = {"content-type": "application/json"}
    outgoing = Outgoing(
        method=entry.method, url=entry.base_url + entry.endpoint, headers=headers, body=body, host=entry.host
    )
    return _clean(
        Exchange(request=canonical.request_from(outgoing, canonical.clean_body(outgoing)), answer=entry.load()),
        NOTHING_MORE,
    )


def _model_list(library: Library, base_url: str, host: str) -> Exchange:
    outgoing = Outgoing(method="GET", url=f"{base_url}/models", headers={}, host=host)
    answer = library.answer(wanted_from(outgoing)) or Answer(status=404)
    return Exchange(request=canonical.request_from(outgoing, canonical.clean_body(outgoing)), answer=answer)


def export(directory: Path, response_ids: Sequence[str], out: Path) -> Scenario:
    """Writes the exchanges that were made for some responses as a scenario of their own."""
    entries = [entry for entry in Library.open(directory).entries if entry.format == ANTIPHON]
    for missing in set(response_ids) - {entry.origin for entry in entries}:
        raise NotFound(
            f"{directory} has no exchange that was made for {missing!r}. Only responses made in mode `record` or"
            " `record-if-missing`, by a call that was recorded in our own format, can be exported."
        )
    name = response_ids[0]
    scenarios = {entry.file: recording.read_scenario(entry.file).exchanges for entry in entries}
    chosen = [scenarios[entry.file][entry.number - 1] for entry in entries if entry.origin in response_ids]
    scenario = Scenario(name=name, exchanges=tuple(map(_exchange, chosen)))
    recording.write_scenario(out / recording.file_name(name) if out.is_dir() else out, scenario)
    return scenario


def _exchange(stored: StoredExchange) -> Exchange:
    return Exchange(request=stored.request, answer=stored.parsed_answer(), origin=stored.origin)


def _scenario(stored: StoredScenario, exchanges: Sequence[Exchange]) -> Scenario:
    return Scenario(name=stored.scenario, test_id=stored.test_id, exchanges=tuple(exchanges))


def pattern(text: str) -> re.Pattern[str]:
    """A pattern from the command line."""
    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidRequest(f"{text!r} is no regular expression: {error}.") from error
