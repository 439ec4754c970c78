"""The images of a run's context: what messages show and what was made before, for a tool that changes images."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from antiphon.engine.attachments import Asking
from antiphon.engine.context import history_of
from antiphon.engine.run import Engine, Progress
from antiphon.errors import NotFound
from antiphon.wire.items import FunctionCallOutput, ImageGenerationCall, InputImage, Item, Message

PICTURES_MAX: Final = 16
"""How many images OpenAI's edits take; of more, the latest count."""


async def pictures(engine: Engine, progress: Progress, wanted: InputImage | None) -> Sequence[str]:
    """Data URLs of the context's images, the oldest first, or of the wanted one. Raises as `Attachments.filled`."""
    run = progress.run
    parts = [wanted] if wanted else list(_shown(await _context(engine, progress)))[-PICTURES_MAX:]
    quirks = replace(engine.catalog.quirks(run.host), images=True, image_urls=False)
    asking = Asking(owner=run.owner, quirks=quirks, replay=run.access.replay)
    showing = replace(run.request, items=[Message(role="user", content=[*parts])])
    (message,) = (await engine.attachments.filled(showing, asking)).items
    content = message.content if isinstance(message, Message) else []
    return [part.image_url for part in content if isinstance(part, InputImage) and part.image_url]


async def _context(engine: Engine, progress: Progress) -> list[Item]:
    run = progress.run
    try:
        previous = run.response.previous_response_id
        history = await history_of(engine, run.owner, run.conversation, previous=previous)
    except NotFound:  # it was not stored, or is deleted since
        history = []
    return [*history, *run.input, *progress.emitter.output]


def _shown(items: Iterable[Item]) -> Iterator[InputImage]:
    for item in items:
        if isinstance(item, ImageGenerationCall) and item.result:
            yield InputImage(image_url=f"data:image/{item.output_format or 'png'};base64,{item.result}")
        content = item.content if isinstance(item, Message) else None
        parts = item.output if isinstance(item, FunctionCallOutput) else content
        if isinstance(parts, list):
            yield from (part for part in parts if isinstance(part, InputImage))
