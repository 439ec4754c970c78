"""Models, and what Llama Stack's and OGX's clients read at start: providers, health, version, routes.

A model is OpenAI's object first; what OGX (`custom_metadata`) and Llama Stack (`identifier`, ...) add stands beside it.
Source: OpenAI's OpenAPI document, `Model`; Llama Stack 0.3 for the rest.
"""

from typing import Any, Literal

from msgspec import field

from antiphon.wire.base import Full, Sparse

ModelType = Literal["llm", "embedding", "rerank", "image"]


class CustomMetadata(Sparse, kw_only=True):
    """What OGX says of a model beside OpenAI's fields."""

    model_type: ModelType
    provider_id: str
    provider_resource_id: str
    embedding_dimension: int | None = None
    context_length: int | None = None


class Model(Full, kw_only=True):
    """A model. `id` is what a request names: `host/model`, or an alias."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str
    custom_metadata: CustomMetadata
    identifier: str
    provider_id: str
    provider_resource_id: str
    model_type: ModelType = "llm"
    metadata: dict[str, Any] = field(default_factory=dict)
    type: Literal["model"] = "model"


class ModelList(Full, kw_only=True):
    """Every model of every host."""

    object: Literal["list"] = "list"
    data: list[Model]


class ProviderHealth(Sparse, kw_only=True):
    """Whether a host answers; `Not Implemented` where it cannot be asked."""

    status: Literal["OK", "Error", "Not Implemented"]
    message: str | None = None


class ProviderEntry(Full, kw_only=True):
    """A model host, or an index (`vector_io`), as Llama Stack describes a provider. Secrets in `config` are masked."""

    api: str = "inference"
    provider_id: str
    provider_type: str
    config: dict[str, Any] = field(default_factory=dict)
    health: ProviderHealth


class ProviderList(Full, kw_only=True):
    """All model hosts and indexes."""

    data: list[ProviderEntry]


class Health(Full):
    """The server is alive."""

    status: Literal["OK"] = "OK"


class Version(Full):
    """The server's version."""

    version: str


class RouteEntry(Full, kw_only=True):
    """A route that the server has."""

    route: str
    method: str
    provider_types: list[str] = field(default_factory=list)


class RouteList(Full, kw_only=True):
    """All routes."""

    data: list[RouteEntry]
