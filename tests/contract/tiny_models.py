"""Small random models in folders, as `sentence-transformers` writes them, and what they compute, in 64-bit floats.

The computation is written down from the papers and knows nothing of graphs: what the package computes is held to it.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a", "dog", "cat", "runs", "sleeps", "eats", "fish"]
WORDS += ["under", "over", "big", "small", "red", "blue"]
HIDDEN, LAYERS, HEADS, INNER, POSITIONS = 16, 2, 4, 32, 24
TYPES = {"<f4": "F32", "<f2": "F16", "<u2": "BF16", "<i8": "I64"}
_erf = np.vectorize(math.erf)


# ---------------------------------------------------------------- files


def write_safetensors(file: Path, tensors: dict[str, np.ndarray]) -> None:
    """The format by hand: length of the header, header, numbers."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in tensors.items():
        end = at + tensor.nbytes
        header[name] = {"dtype": TYPES[tensor.dtype.str], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    head = json.dumps(header).encode()
    file.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(tensor.tobytes() for tensor in tensors.values()))


def random_tensors(prefix: str = "", *, head: tuple[str, str] | None = None, first: int = 0) -> dict[str, np.ndarray]:
    """All of a model's tensors; `head` names the two layers of a classifier."""
    chance = np.random.default_rng(7)
    found: dict[str, np.ndarray] = {}

    def add(name: str, *shape: int, around: float = 0.0) -> None:
        found[name] = (around + chance.normal(0, 0.3, shape)).astype("<f4")

    def linear(name: str, wide: int, out: int) -> None:
        add(f"{name}.weight", out, wide)
        add(f"{name}.bias", out)

    def norm(name: str) -> None:
        add(f"{name}.weight", HIDDEN, around=1.0)
        add(f"{name}.bias", HIDDEN)

    at = f"{prefix}embeddings."
    add(f"{at}word_embeddings.weight", len(WORDS), HIDDEN)
    add(f"{at}position_embeddings.weight", POSITIONS + first, HIDDEN)
    add(f"{at}token_type_embeddings.weight", 2, HIDDEN)
    norm(f"{at}LayerNorm")
    for layer in range(LAYERS):
        at = f"{prefix}encoder.layer.{layer}."
        for each in ("query", "key", "value"):
            linear(f"{at}attention.self.{each}", HIDDEN, HIDDEN)
        linear(f"{at}attention.output.dense", HIDDEN, HIDDEN)
        norm(f"{at}attention.output.LayerNorm")
        linear(f"{at}intermediate.dense", HIDDEN, INNER)
        linear(f"{at}output.dense", INNER, HIDDEN)
        norm(f"{at}output.LayerNorm")
    if head:
        linear(head[0], HIDDEN, HIDDEN)
        linear(head[1], HIDDEN, 1)
    return found


def config(**more: Any) -> dict[str, Any]:
    """The model's `config.json`."""
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": POSITIONS,
        **more,
    }


def tokenizer() -> dict[str, Any]:
    """A `tokenizer.json` of whole words, framed as BERT does."""

    def special(word: str, kind: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": word, "type_id": kind}}

    def text(name: str, kind: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": kind}}

    single = [special("[CLS]", 0), text("A", 0), special("[SEP]", 0)]
    specials = {word: {"id": word, "ids": [WORDS.index(word)], "tokens": [word]} for word in ("[CLS]", "[SEP]")}
    padding = {"strategy": {"Fixed": 20}, "direction": "Right", "pad_to_multiple_of": None}
    padding |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    words = {word: place for place, word in enumerate(WORDS)}
    pair = [*single, text("B", 1), special("[SEP]", 1)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": padding,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": specials},
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": words,
            "unk_token": "[UNK]",
        },
    }


def write_model(folder: Path, tensors: dict[str, np.ndarray] | None = None, **more: Any) -> Path:
    """A whole embedding model; `more` goes into its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(**more)))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    write_safetensors(folder / "model.safetensors", random_tensors() if tensors is None else tensors)
    return folder


def write_reranker(folder: Path, **more: Any) -> Path:
    """A whole cross-encoder."""
    tensors = random_tensors("bert.", head=("bert.pooler.dense", "classifier"))
    return write_model(folder, tensors, architectures=["BertForSequenceClassification"], id2label={"0": "yes"}, **more)


def write_modules(folder: Path, *, pooling: str = "mean_tokens", normalize: bool = True) -> None:
    """`modules.json` and the pooling's own file."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalize else [])]
    listed = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = {f"pooling_mode_{each}": each == pooling for each in ("cls_token", "mean_tokens", "max_tokens")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": HIDDEN, **modes}))


def ids_of(text: str, other: str | None = None) -> tuple[list[int], list[int]]:
    """Token ids and segments, as the tokenizer above makes them."""
    known = {word: place for place, word in enumerate(WORDS)}
    ids = [known["[CLS]"], *(known.get(word, 1) for word in text.split()), known["[SEP]"]]
    if other is None:
        return ids, [0] * len(ids)
    more = [*(known.get(word, 1) for word in other.split()), known["[SEP]"]]
    return ids + more, [0] * len(ids) + [1] * len(more)


def encoded(encoder: Any, texts: Sequence[Any]) -> np.ndarray:
    """What the package's encoder makes of texts, or of pairs."""
    windows = [window for place, text in enumerate(texts) for window in encoder.windows(text, place, whole=False)]
    rows: np.ndarray = encoder.run(windows)
    return rows


# ---------------------------------------------------------------- what they compute


class Reference:
    """BERT as in the paper, one text at a time, in 64-bit floats."""

    def __init__(self, tensors: dict[str, np.ndarray], *, layers: int, heads: int, **shape: Any) -> None:
        self._found = {name: tensor.astype(np.float64) for name, tensor in tensors.items() if tensor.dtype.kind == "f"}
        self._layers, self._heads = layers, heads
        self._prefix: str = shape.get("prefix", "")
        self._first: int = shape.get("first", 0)
        self._epsilon: float = shape.get("epsilon", 1e-12)

    def hidden(self, ids: list[int], segments: list[int]) -> np.ndarray:
        """The last layer: a row for each token."""
        at = f"{self._prefix}embeddings."
        tables = [self._found[f"{at}{each}_embeddings.weight"] for each in ("word", "position", "token_type")]
        positions = np.arange(len(ids)) + self._first
        rows = tables[0][ids] + tables[1][positions] + tables[2][segments]
        rows = self._norm(f"{at}LayerNorm", rows)
        for layer in range(self._layers):
            at = f"{self._prefix}encoder.layer.{layer}."
            rows = self._norm(f"{at}attention.output.LayerNorm", rows + self._attended(at, rows))
            inner = self.linear(f"{at}intermediate.dense", rows)
            inner = inner * 0.5 * (1 + _erf(inner / math.sqrt(2)))
            rows = self._norm(f"{at}output.LayerNorm", rows + self.linear(f"{at}output.dense", inner))
        return rows

    def vector(self, ids: list[int], pooling: str = "mean") -> np.ndarray:
        """The text's vector, of length 1."""
        rows = self.hidden(ids, [0] * len(ids))
        pooled: np.ndarray = rows.mean(axis=0) if pooling == "mean" else rows[0]
        return pooled / np.linalg.norm(pooled)

    def relevance(self, ids: list[int], segments: list[int], head: tuple[str, str]) -> float:
        """What a cross-encoder says of a pair, between 0 and 1."""
        bent = np.tanh(self.linear(head[0], self.hidden(ids, segments)[0]))
        return float(1 / (1 + np.exp(-self.linear(head[1], bent)[0])))

    def linear(self, name: str, rows: np.ndarray) -> np.ndarray:
        """A linear layer."""
        product: np.ndarray = rows @ self._found[f"{name}.weight"].T + self._found[f"{name}.bias"]
        return product

    def _attended(self, at: str, rows: np.ndarray) -> np.ndarray:
        size = rows.shape[1] // self._heads
        query, key, value = (self.linear(f"{at}attention.self.{each}", rows) for each in ("query", "key", "value"))
        outputs = []
        for head in range(self._heads):
            part = slice(head * size, (head + 1) * size)
            scores = query[:, part] @ key[:, part].T / math.sqrt(size)
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            outputs.append(shares / shares.sum(axis=1, keepdims=True) @ value[:, part])
        return self.linear(f"{at}attention.output.dense", np.concatenate(outputs, axis=1))

    def _norm(self, name: str, rows: np.ndarray) -> np.ndarray:
        centred = rows - rows.mean(axis=1, keepdims=True)
        unit = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + self._epsilon)
        scaled: np.ndarray = unit * self._found[f"{name}.weight"] + self._found[f"{name}.bias"]
        return scaled
