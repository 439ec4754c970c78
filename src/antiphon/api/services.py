"""Everything a route may use, as one record: `app` makes it once, every call carries it."""

from collections.abc import Awaitable, Callable

from msgspec import Struct

from antiphon.api.idempotency import Once
from antiphon.api.sse import KeepAlive
from antiphon.api.tasks import Tasks
from antiphon.clock import Clock
from antiphon.config import Config
from antiphon.drain import Drain
from antiphon.engine.run import Engine
from antiphon.ids import NewId
from antiphon.models.catalog import Catalog
from antiphon.replay.llama_stack import NumberedIds
from antiphon.stores.batches import Batches
from antiphon.stores.completions import Completions
from antiphon.stores.containers import Containers
from antiphon.stores.conversations import Conversations
from antiphon.stores.files import Files
from antiphon.stores.idempotency import Idempotency
from antiphon.stores.jobs import Jobs
from antiphon.stores.responses import Responses
from antiphon.stores.uploads import Uploads
from antiphon.stores.vector_files import VectorFiles
from antiphon.stores.vector_stores import VectorStores
from antiphon.telemetry import Telemetry
from antiphon.tools.hosting import Hosting
from antiphon.tools.rag import Rag
from antiphon.tools.tool_runtime import ToolRuntime
from antiphon.vectors.ingest import Ingesting
from antiphon.vectors.parse import Parser
from antiphon.vectors.search import Search


class Services(Struct, frozen=True, kw_only=True):
    """What lives as long as the server. `ready` names what is missing for the server to do its work."""

    config: Config
    clock: Clock
    new_id: NewId
    catalog: Catalog
    engine: Engine
    responses: Responses
    conversations: Conversations
    completions: Completions
    files: Files
    uploads: Uploads
    parser: Parser
    containers: Containers
    hosting: Hosting
    batches: Batches
    jobs: Jobs
    vector_stores: VectorStores
    vector_files: VectorFiles
    ingesting: Ingesting
    search: Search
    rag: Rag
    tool_runtime: ToolRuntime
    test_ids: NumberedIds
    tasks: Tasks
    drain: Drain
    alive: KeepAlive
    idempotency: Idempotency
    once: Once
    ready: Callable[[], Awaitable[list[str]]]
    telemetry: Telemetry
