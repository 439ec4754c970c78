"""The models of all hosts."""

from antiphon.api.call import Call
from antiphon.api.route import route
from antiphon.wire.models import Model, ModelList


@route("GET", "/v1/models", answer=ModelList)
async def list_models(call: Call[None, None]) -> bytes:
    """List the models."""
    return await call.services.catalog.list_json()


@route("GET", "/v1/models/{model:path}", answer=Model)
async def get_model(call: Call[None, None]) -> Model:
    """Retrieve a model; its id may have slashes."""
    return await call.services.catalog.get(call.params["model"])
