"""A loaded model: texts, or pairs of them, through tokenizer and graph. Everything here runs on a thread.

Work is cut into batches of bounded size: what memory it takes does not grow with a request, and whoever asks next
waits for one batch at most, not for a whole request.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from msgspec import Struct

from antiphon.models.local.bert import IDS, LOGITS, MASK, SEGMENTS, graph_of
from antiphon.models.local.folder import TOKENIZER, Folder
from antiphon.models.local.onnx import Array
from antiphon.models.local.safetensors import Broken

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

Text = str | tuple[str, str]

BATCH_TOKENS: Final = 512
"""Tokens of one batch, padding included: larger ones are no faster on a processor, and take more memory."""
FILES: Final = "session.model_external_initializers_file_folder_path"
"""onnxruntime's name of the setting that says where the files of a model's constants are."""
CHARS_PER_TOKEN_MAX: Final = 64
"""Of a text, no more is read than this for each token that the model takes: what a request costs is bounded."""


class Window(Struct, frozen=True):
    """Part of a text that fits the model: its token ids and segments. `text` counts the request's texts."""

    text: int
    ids: list[int]
    segments: list[int]


class Encoder:
    """A model and its tokenizer, ready. Several threads may use it. Raises `Broken` where they cannot be loaded."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        with _translated(folder.path / TOKENIZER):
            self._tokenizer = _tokenizer(folder)
        with _translated(folder.graph or folder.path):
            self._session = _session(folder)
        self._types = {each.name: each.type for each in self._session.get_inputs()}
        self._output = _output(folder, self._session)

    def windows(self, text: Text, place: int, *, whole: bool) -> list[Window]:
        """The text as the model is given it: its beginning, or all of it in as many windows as it takes."""
        cut = _cut(text, self.folder.tokens_max * CHARS_PER_TOKEN_MAX)
        # Of all the tokenizer's methods, this one lets other threads run.
        (first,) = self._tokenizer.encode_batch_fast([self._worded(cut)])
        return [Window(place, each.ids, each.type_ids) for each in [first, *(first.overflowing if whole else [])]]

    def run(self, windows: Sequence[Window]) -> Array:
        """A row of numbers for each window: its vector, not yet normalised, or its logit."""
        width = max(len(window.ids) for window in windows)
        ids, mask, segments = (np.zeros((len(windows), width), np.int32) for _ in range(3))
        for row, window in enumerate(windows):
            size = len(window.ids)
            ids[row, :size], mask[row, :size], segments[row, :size] = window.ids, 1, window.segments
        given = {IDS: ids, MASK: mask, SEGMENTS: segments}
        wide = {"tensor(int64)": np.int64}
        feed = {name: given[name].astype(wide.get(type, np.int32), copy=False) for name, type in self._types.items()}
        with _translated(self.folder.path):
            (result,) = self._session.run([self._output], feed)
        return self._pooled(result, mask)

    def _pooled(self, result: Array, mask: Array) -> Array:
        if result.ndim == 2:  # the graph pools by itself, or the result is a logit
            return result
        if self.folder.pooling == "cls":
            return result[:, 0]
        weights = mask.astype(np.float32)
        pooled: Array = np.einsum("bsh,bs->bh", result, weights, optimize=True)
        pooled /= weights.sum(axis=1, keepdims=True)
        return pooled

    def _worded(self, text: Text) -> Text:
        if isinstance(text, tuple):
            return text
        return self.folder.prompt + (text.lower() if self.folder.lowercased else text)


class Model:
    """A folder's model, loaded when it is first asked for."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._encoder: Encoder | None = None
        self._loading = threading.Lock()

    def encoder(self) -> Encoder:
        """The model, ready. Raises `Broken` where it cannot be loaded; the next request tries again."""
        with self._loading:
            if self._encoder is None:
                self._encoder = Encoder(self.folder)
            return self._encoder


def batches(windows: Sequence[Window]) -> Iterator[list[int]]:
    """The places of windows that are run together: of like length, and no more tokens than `BATCH_TOKENS`."""
    batch: list[int] = []
    width = 0
    for place in sorted(range(len(windows)), key=lambda each: -len(windows[each].ids)):
        if batch and width * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        if not batch:
            width = len(windows[place].ids)
        batch.append(place)
    if batch:
        yield batch


def joined(rows: Array, windows: Sequence[Window]) -> Array:
    """One row for each text: that of its window, or the mean of several, each by the tokens that it has."""
    firsts = [place for place, window in enumerate(windows) if not place or windows[place - 1].text != window.text]
    if len(firsts) == len(windows):
        return rows
    weights = np.array([len(window.ids) for window in windows], np.float32)[:, None]
    joined: Array = np.add.reduceat(rows * weights, firsts) / np.add.reduceat(weights, firsts)
    return joined


def normalized(rows: Array) -> Array:
    """The rows, each of length 1."""
    lengths: Array = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Array = rows / lengths.clip(1e-12)
    return unit


def _cut(text: Text, chars: int) -> Text:
    return text[:chars] if isinstance(text, str) else (text[0][:chars], text[1][:chars])


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Whatever the two libraries raise, as what is wrong with the model: neither has a class of its own for it."""
    try:
        yield
    except Broken:
        raise
    except Exception as error:
        raise Broken(path, f"it cannot be used: {' '.join(str(error).split())[:300].rstrip('.')}") from error


def _tokenizer(folder: Folder) -> "Tokenizer":
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder.path / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(folder.tokens_max)
    return tokenizer


def _session(folder: Folder) -> "InferenceSession":
    """The model, each run of which takes one thread: several batches at once use a machine better than one does."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Both keep the memory of the largest batch for ever, and make nothing faster.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.log_severity_level = 4
    model: Any = str(folder.graph)
    if folder.shape is not None:
        graph = graph_of(folder.shape, folder.tensors(), classifies=folder.kind == "rerank")
        if graph.folder is not None:
            options.add_session_config_entry(FILES, str(graph.folder))
        model = graph.model()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _output(folder: Folder, session: "InferenceSession") -> str:
    """The output that is wanted, of those that the graph has."""
    wanted = (LOGITS,) if folder.kind == "rerank" else ("sentence_embedding", "last_hidden_state", "token_embeddings")
    names = [each.name for each in session.get_outputs()]
    return next((name for name in wanted if name in names), names[0])
