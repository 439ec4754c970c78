"""A question into terms to search for, by a chat model."""

from antiphon.models.base import Access, ModelRequest, Text
from antiphon.models.catalog import Catalog
from antiphon.wire.items import InputText, Message


async def rewritten(catalog: Catalog, model: str, question: str, *, prompt: str, access: Access) -> str:
    """What the model makes of the question; the question itself where it says nothing. Raises `ApiError`s only."""
    resolved = await catalog.resolve(model, access)
    asked = Message(role="user", content=[InputText(text=question)])
    request = ModelRequest(model=resolved.model, items=[asked], instructions=prompt)
    answer = await resolved.provider.open(request, access)
    try:
        said = "".join([event.text async for batch in answer for event in batch if isinstance(event, Text)])
    finally:
        await answer.aclose()
    return said.strip() or question
