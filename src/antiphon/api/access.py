"""What a request's headers say about the model host: the client's own keys, and recording.

Keys come as a JSON object in `X-Antiphon-Provider-Data`, or in Llama Stack's and OGX's header of that kind: members
named as those systems name them (`openai_api_key`), or simply after the host.
"""

from collections.abc import Callable, Mapping
from typing import Any, get_args

import msgspec

from antiphon.config import Mode
from antiphon.errors import Forbidden, InvalidRequest
from antiphon.exchange import Replay
from antiphon.models.base import NO_ACCESS, Access
from antiphon.wire.tool_groups import Sent

OURS = b"x-antiphon-provider-data"
THEIRS = (b"x-llamastack-provider-data", b"x-ogx-provider-data")
MODE = b"x-antiphon-mode"
TEST_ID = "__test_id"
ANY_HOST = "api_key"
_MODES = get_args(Mode)


def access_from(headers: Mapping[bytes, bytes], warn: Callable[[str], None], *, recorded: bool) -> Access:
    """The request's access; `recorded` says whether this server has recordings.

    Raises `InvalidRequest` for headers of ours that make no sense, `Forbidden` for a mode. Llama Stack ignores what it
    cannot read in its header, and so do we, with a warning.
    """
    wanted, members = headers.get(MODE), _all_members(headers, warn)
    if wanted is None and not members:
        return NO_ACCESS
    test_id = members.pop(TEST_ID, None)
    keys = {name: value for name, value in members.items() if isinstance(value, str) and value}
    _check(keys)
    named = {f"{name}_api_key": value for name, value in keys.items() if name != ANY_HOST}
    return Access(
        key=keys.get(ANY_HOST),
        keys=named | keys,
        replay=Replay(
            mode=None if wanted is None else _mode(wanted, recorded=recorded),
            test_id=test_id if isinstance(test_id, str) else None,
        ),
    )


def mcp_headers_from(headers: Mapping[bytes, bytes], warn: Callable[[str], None]) -> dict[str, dict[str, str]]:
    """The member `mcp_headers`: what MCP servers are sent, by their addresses.

    They are secrets, and read only where they are used. Raises `InvalidRequest` for what cannot be sent.
    """
    given = _all_members(headers, warn).get("mcp_headers") or {}
    try:
        return msgspec.convert(given, dict[str, dict[Sent, Sent]])
    except msgspec.ValidationError as error:
        message = "The member 'mcp_headers' of the provider-data header must be {address: {header: value}}."
        raise InvalidRequest(message, param=OURS.decode(), code="invalid_header") from error


def _all_members(headers: Mapping[bytes, bytes], warn: Callable[[str], None]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name in (OURS, *THEIRS):
        value = headers.get(name)
        if value is not None:
            members = _members(name, value, warn) | members
    return members


def _members(name: bytes, value: bytes, warn: Callable[[str], None]) -> dict[str, Any]:
    try:
        return msgspec.json.decode(value, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if name != OURS:
            warn(f"ignored {name.decode()}: not a JSON object")
            return {}
        message = f"The header {name.decode()} must be a JSON object of names and keys."
        raise InvalidRequest(message, param=name.decode(), code="invalid_header") from error


def _check(keys: Mapping[str, str]) -> None:
    """Keys become header values of another request: nothing may end the line there."""
    for name, value in keys.items():
        if not (value.isascii() and value.isprintable()):
            message = f"The key {name[:100]!r} in the provider-data header has characters that no key can have."
            raise InvalidRequest(message, param=OURS.decode(), code="invalid_header")


def _mode(wanted: bytes, *, recorded: bool) -> str:
    text = wanted.decode("latin-1").strip().lower()
    if text not in _MODES:
        message = f"The header x-antiphon-mode must be one of {', '.join(_MODES)}, not {text[:40]!r}."
        raise InvalidRequest(message, param=MODE.decode(), code="invalid_header")
    if not recorded and text != "live":
        message = "The header x-antiphon-mode needs a server that was started with --recordings, or in another mode."
        raise Forbidden(message, param=MODE.decode(), code="recordings_disabled")
    return text
