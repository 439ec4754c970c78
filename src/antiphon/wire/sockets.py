"""What is sent over a WebSocket on `/v1/responses` besides the events of a stream.

Sources: `WebSocketResponseCreateEvent` and `WebSocketErrorEvent` of Open Responses 2026-04-24, and the `openai`
package's `ResponsesClientEvent` and `ResponsesServerEvent`, which add lanes (`stream_id`) and `generate`.
"""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from antiphon.wire.responses import CreateResponse


class CreateFrame(CreateResponse, kw_only=True):
    """A client's frame: the body of `POST /v1/responses`, and how the socket is to treat it.

    `generate: false` prepares a response without asking the model. Turns of one `stream_id` run one after the other.
    """

    type: Literal["response.create"]
    generate: bool | None = None
    stream_id: str | None = None


class FrameError(Struct, kw_only=True):
    """What is wrong, in OpenAI's form; `headers` are those that HTTP would have answered with."""

    message: str
    type: str
    param: str | None
    code: str
    headers: dict[str, str] | UnsetType = UNSET


class ErrorFrame(Struct, kw_only=True, tag_field="type", tag="error"):
    """A turn that did not begin, or a connection that ends; `status` is the one that HTTP would have had."""

    status: int
    error: FrameError
    stream_id: str | UnsetType = UNSET
