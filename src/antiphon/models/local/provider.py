"""The dialect `local`: a host that is a folder. Its models run in this process, on threads, and ask no network.

Nothing of it is recorded or replayed: the same texts give the same numbers, so in any mode the model itself answers.
"""

import asyncio
import base64
import importlib.util
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec
import numpy as np
from msgspec import Struct

from antiphon.config import ConfigError, Host
from antiphon.errors import DECODE_ERRORS, ContextTooLong, InvalidRequest, NotFound, Unsupported, Upstream, misfit
from antiphon.exchange import Incoming, Transport
from antiphon.models.base import NO_ACCESS, Access, ModelInfo, ModelRequest, ModelStream
from antiphon.models.local.encoder import Encoder, Model, Text, Window, batches, joined, normalized
from antiphon.models.local.folder import CONFIG, Folder, models_in
from antiphon.models.local.onnx import Array
from antiphon.models.local.safetensors import Broken

A = TypeVar("A")
B = TypeVar("B")
PACKAGES: Final = ("onnxruntime", "tokenizers")
TEXTS_AT_ONCE: Final = 16
"""Texts that are tokenized in one go on a thread: some 10 ms."""
_HEADERS: Final = {"content-type": "application/json"}

_encode = msgspec.json.Encoder().encode


class _Embed(Struct, kw_only=True):
    model: str
    input: str | list[Any]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


class _Rerank(Struct, kw_only=True):
    model: str
    query: str
    documents: list[str]
    top_n: int | None = None


_embeds = msgspec.json.Decoder(_Embed)
_reranks = msgspec.json.Decoder(_Rerank)


class Local:
    """The models of a folder (`models.base.Provider`). Raises `ConfigError` where folder or packages are wrong."""

    def __init__(self, host: Host, _transport: Transport) -> None:
        self._host = host
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            packages = " and ".join(missing)
            raise ConfigError(
                [f"hosts.{host.name}: models in a folder need {packages}: pip install 'antiphon[local]'."]
            )
        try:
            found = models_in(Path(unquote(urlsplit(host.base_url).path)))
        except Broken as error:
            raise ConfigError([f"hosts.{host.name}.base_url: {error}"]) from error
        self._threads = ThreadPoolExecutor(host.local.threads, thread_name_prefix=f"local-{host.name}")
        self._models = {folder.name: Model(folder) for folder in found}

    async def open(self, request: ModelRequest, _access: Access = NO_ACCESS) -> ModelStream:
        """No model of a folder chats."""
        raise _other_use(request.model, "chat")

    def left_out(self, _request: ModelRequest) -> list[str]:
        """Nothing: no model is asked."""
        return []

    async def models(self, _access: Access = NO_ACCESS) -> list[ModelInfo]:
        """The folder's models, as they were when the server started."""
        folders = [each.folder for each in self._models.values()]
        return [
            ModelInfo(id=each.name, kind=each.kind, dimension=each.dimension, context_window=each.tokens_max)
            for each in folders
        ]

    async def post(self, path: str, body: bytes, _access: Access = NO_ACCESS, *, content_type: str = "") -> Incoming:
        """Answers an embeddings or a rerank request."""
        del content_type
        try:
            if path == "/embeddings":
                answer = await self._embedded(_embeds.decode(body))
            elif path == "/rerank":
                answer = await self._reranked(_reranks.decode(body))
            else:
                raise Unsupported(f"Models in a folder embed and rerank; there is no {path} of theirs.", param="model")
        except DECODE_ERRORS as error:
            raise misfit(error) from error
        except Broken as error:
            raise Upstream(f"Host {self._host.name!r} cannot run its model: {error}") from error
        return Incoming(200, _HEADERS, _pieces(answer))

    # ------------------------------------------------------------ what is asked

    async def _embedded(self, asked: _Embed) -> bytes:
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        if not all(isinstance(text, str) and text for text in texts):
            message = "A model in a folder embeds texts that are not empty; arrays of tokens are another model's."
            raise InvalidRequest(message, param="input")
        encoder = await self._encoder(asked.model, "embedding")
        folder = encoder.folder
        if asked.dimensions is not None and not 1 <= asked.dimensions <= folder.dimension:
            message = (
                f"The model '{folder.name}' has {folder.dimension} dimensions, so {asked.dimensions} is impossible."
            )
            raise InvalidRequest(message, param="dimensions")
        windows = await self._windows(encoder, texts, whole=self._host.local.long_texts != "cut")
        if self._host.local.long_texts == "refuse":
            _check(folder, windows)
        rows = await self._rows(encoder, windows)
        return await self._on_thread(partial(_embeddings, asked, folder, rows=rows, windows=windows))

    async def _reranked(self, asked: _Rerank) -> bytes:
        encoder = await self._encoder(asked.model, "rerank")
        pairs = [(asked.query, document) for document in asked.documents]
        windows = await self._windows(encoder, pairs, whole=False)
        logits = (await self._rows(encoder, windows)).astype(np.float64)[:, 0]
        scores = 1 / (1 + np.exp(-logits.clip(-700, 700)))
        order = np.argsort(-scores, kind="stable")[: asked.top_n]
        results = [{"index": int(place), "relevance_score": float(scores[place])} for place in order]
        return _encode({"model": asked.model, "results": results, "usage": _usage(windows)})

    # ------------------------------------------------------------ the model at work

    async def _encoder(self, name: str, kind: Literal["embedding", "rerank"]) -> Encoder:
        if name not in self._models:
            message = f"The model '{name}' is not in the folder of host '{self._host.name}'."
            raise NotFound(message, param="model", code="model_not_found")
        if self._models[name].folder.kind != kind:
            raise _other_use(name, "embeddings" if kind == "embedding" else "reranking")
        return await self._on_thread(self._models[name].encoder)

    async def _windows(self, encoder: Encoder, texts: Sequence[Text], *, whole: bool) -> list[Window]:
        """The texts as tokens, of each its beginning or the whole."""

        def tokenize(places: range) -> list[Window]:
            return [window for place in places for window in encoder.windows(texts[place], place, whole=whole)]

        size = len(texts)
        slices = [range(start, min(start + TEXTS_AT_ONCE, size)) for start in range(0, size, TEXTS_AT_ONCE)]
        return [window for found in await self._side_by_side(tokenize, slices) for window in found]

    async def _rows(self, encoder: Encoder, windows: Sequence[Window]) -> Array:
        """The model's result for each window."""

        def run(places: list[int]) -> Array:
            return encoder.run([windows[place] for place in places])

        groups = list(batches(windows))
        found = await self._side_by_side(run, groups)
        rows = np.concatenate(found) if found else np.zeros((0, 1), np.float32)
        ordered = np.empty_like(rows)
        ordered[[place for group in groups for place in group]] = rows
        return ordered

    async def _side_by_side(self, work: Callable[[A], B], items: Sequence[A]) -> list[B]:
        """The work on all items, in their order, each on a thread; of one request never more than there are threads."""
        done: dict[int, B] = {}
        waiting = iter(enumerate(items))

        async def take() -> None:
            for place, item in waiting:
                done[place] = await self._on_thread(partial(work, item))

        takers = [asyncio.create_task(take()) for _ in range(min(self._host.local.threads, len(items)))]
        try:
            await asyncio.gather(*takers)
        finally:
            for taker in takers:
                taker.cancel()
        return [done[place] for place in range(len(items))]

    async def _on_thread(self, work: Callable[[], B]) -> B:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _check(folder: Folder, windows: Sequence[Window]) -> None:
    for before, window in pairwise(windows):
        if before.text == window.text:
            message = f"Text {window.text} is longer than the {folder.tokens_max} tokens that '{folder.name}' takes."
            raise ContextTooLong(message, param="input")


def _embeddings(asked: _Embed, folder: Folder, *, rows: Array, windows: Sequence[Window]) -> bytes:
    """The answer, in the encoding that was asked for."""
    vectors = joined(rows, windows)
    if vectors.shape[1:] != (folder.dimension,):
        raise Broken(
            folder.path, f"its vectors have {vectors.shape[1]} numbers, not the {folder.dimension} of {CONFIG}"
        )
    if folder.normalized or asked.dimensions is not None:
        vectors = normalized(vectors[:, : asked.dimensions])
    shown: Iterable[Any] = vectors.astype(np.float64).tolist()
    if asked.encoding_format == "base64":
        shown = (base64.b64encode(vector.tobytes()).decode() for vector in vectors.astype("<f4"))
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(shown)]
    return _encode({"object": "list", "data": data, "model": asked.model, "usage": _usage(windows)})


def _usage(windows: Sequence[Window]) -> dict[str, int]:
    tokens = sum(len(window.ids) for window in windows)
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def _other_use(model: str, use: str) -> InvalidRequest:
    return InvalidRequest(f"The model '{model}' cannot be used for {use}.", param="model", code="wrong_model_type")


async def _pieces(answer: bytes) -> AsyncIterator[bytes]:
    yield answer
