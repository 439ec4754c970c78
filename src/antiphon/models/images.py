"""Which image model is asked: the one that is named, the configured one, or the only one there is."""

from typing import Final

from antiphon.errors import Unsupported
from antiphon.models.base import Access
from antiphon.models.catalog import Catalog, Resolved
from antiphon.tooling import ImageGenerationConfig

GENERATIONS: Final = "/images/generations"
EDITS: Final = "/images/edits"


async def image_model(
    catalog: Catalog, config: ImageGenerationConfig, name: str | None, *, access: Access, param: str
) -> Resolved:
    """The model. Raises `Unsupported` (`no_image_model`) where none is named and there is none, or a choice.

    Raises as `Catalog.resolve` for a name.
    """
    if chosen := name or config.model:
        return await catalog.resolve(chosen, access, kind="image")
    only = await catalog.only("image")
    if only is None:
        message = "An image model must be named: here, there is none, or a choice. Set `image_generation.model`."
        raise Unsupported(message, param=param, code="no_image_model")
    return only
