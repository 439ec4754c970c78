"""Vector stores, the files attached to them, and batches of files: rows. What they contain is an index's."""

from collections.abc import Mapping

from msgspec import Struct


class FileFacts(Struct, frozen=True, kw_only=True):
    """What a search needs to know of a file that is completely ingested."""

    filename: str
    attributes: Mapping[str, str | float | bool]


class StoreView(Struct, frozen=True, kw_only=True):
    """A store as a search sees it.

    `index` names the index that keeps its chunks; `embedding_model` is "" where it is searched by words only. `among`
    has, of each file that is completely ingested, the attempt that counts; `files` the same files' facts. While nothing
    in the store changed, both are the same objects from one call to the next.
    """

    id: str
    index: str
    embedding_model: str
    dimension: int
    metric: str
    among: Mapping[str, str]
    files: Mapping[str, FileFacts]
