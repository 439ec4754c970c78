"""The Batches API.

Source: OpenAI's OpenAPI document, `Batch` and `createBatch`; names judged by the `openai` package. The lines of the
files, `BatchRequestInput` and `BatchRequestOutput`, stand in OpenAI's guide only.
"""

from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct

from antiphon.wire.base import Full, Metadata, Sparse
from antiphon.wire.files import ExpiresAfter

BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
ENDED: tuple[BatchStatus, ...] = ("failed", "completed", "expired", "cancelled")
"""The statuses that a batch never leaves."""


class BatchError(Full, kw_only=True):
    """What is wrong with a batch's input, and in which line (counted from 1)."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchErrors(Full, kw_only=True):
    """Why a batch failed."""

    data: list[BatchError]
    object: Literal["list"] = "list"


class RequestCounts(Struct, frozen=True, kw_only=True):
    """How many lines there are, and how many have ended in either way."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class CachedTokens(Struct, frozen=True, kw_only=True):
    """Of the input, what the host had cached."""

    cached_tokens: int = 0


class ReasoningTokens(Struct, frozen=True, kw_only=True):
    """Of the output, what was reasoning."""

    reasoning_tokens: int = 0


class BatchUsage(Struct, frozen=True, kw_only=True):
    """The tokens of all lines together, as far as the hosts told."""

    input_tokens: int = 0
    input_tokens_details: CachedTokens = CachedTokens()
    output_tokens: int = 0
    output_tokens_details: ReasoningTokens = ReasoningTokens()
    total_tokens: int = 0


class Batch(Full, kw_only=True):
    """Requests from a file, carried out when there is room for them."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None = None
    errors: BatchErrors | None = None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts = RequestCounts()
    usage: BatchUsage = BatchUsage()
    metadata: Metadata | None = None


class CreateBatch(Full, kw_only=True):
    """The body of `POST /v1/batches`."""

    input_file_id: str
    endpoint: str
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


class BatchListQuery(Full, kw_only=True):
    """The query of `GET /v1/batches`."""

    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class LineAnswer(Full, kw_only=True):
    """What one request of a batch was answered."""

    status_code: int
    request_id: str
    body: Raw


class LineError(Full, kw_only=True):
    """Why one request of a batch was not carried out."""

    code: Literal["batch_expired", "batch_cancelled", "input_file_missing"]
    message: str


class OutputLine(Full, kw_only=True):
    """A line of a batch's output or error file."""

    id: str
    custom_id: str
    response: LineAnswer | None = None
    error: LineError | None = None


class UsageDetails(Sparse, kw_only=True):
    """What is told about tokens beyond their number."""

    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class LineUsage(Sparse, kw_only=True):
    """The usage in an answer, in the words of responses or of the older endpoints."""

    input_tokens: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens_details: UsageDetails | None = None
    prompt_tokens_details: UsageDetails | None = None
    output_tokens_details: UsageDetails | None = None
    completion_tokens_details: UsageDetails | None = None


class Answered(Sparse, kw_only=True):
    """What a batch reads of an answer."""

    usage: LineUsage | None = None
