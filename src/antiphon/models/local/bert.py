"""BERT and its kin as a graph of onnxruntime's fused operations, out of a model's tensors.

The encoder is the one of Devlin et al. 2018. RoBERTa and XLM-R differ by where positions begin to count and by the
layers of the classifier; MiniLM, E5, BGE and GTE (the older, small ones) are BERT by another training.
"""

from typing import Final

import numpy as np
from msgspec import Struct

from antiphon.models.local.onnx import CONTRIB, Array, Graph
from antiphon.models.local.safetensors import Tensors

IDS, MASK, SEGMENTS = "input_ids", "attention_mask", "token_type_ids"
HIDDEN: Final = "last_hidden_state"
LOGITS: Final = "logits"
_ACTIVATIONS: Final = {
    "gelu": "BiasGelu",
    "gelu_new": "FastGelu",
    "gelu_pytorch_tanh": "FastGelu",
    "gelu_fast": "FastGelu",
}
ACTIVATIONS: Final = (*_ACTIVATIONS, "relu")
"""The values of `hidden_act` that are known."""
_WORDS: Final = "embeddings.word_embeddings.weight"


class Shape(Struct, frozen=True, kw_only=True):
    """A model's `config.json`, as far as the graph depends on it. `first_position`: RoBERTa's begin behind padding."""

    hidden: int
    layers: int
    heads: int
    activation: str = "gelu"
    epsilon: float = 1e-12
    first_position: int = 0
    roberta: bool = False


def prefix_of(tensors: Tensors) -> str | None:
    """What a model's tensors are named after (`bert.`, or nothing); None if it has no table of words."""
    return next((name.removesuffix(_WORDS) for name in tensors if name.endswith(_WORDS)), None)


def needed(shape: Shape, *, classifies: bool) -> list[str]:
    """The names of all tensors that the graph is made of; those of the classifier are the last four."""
    tables = [f"embeddings.{each}_embeddings.weight" for each in ("word", "position", "token_type")]
    names = [_WORDS, *tables[1:], *_both("embeddings.LayerNorm")]
    for layer in range(shape.layers):
        at = f"encoder.layer.{layer}."
        for part in _PARTS:
            names += _both(at + part)
    return names + [name for each in _head(shape) for name in _both(each)] if classifies else names


def graph_of(shape: Shape, tensors: Tensors, *, classifies: bool) -> Graph:
    """The whole model: token ids, mask and segments to the last layer's vectors, or to a logit for each input."""
    return _Builder(shape, tensors).built(classifies=classifies)


_PARTS: Final = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)


def _both(name: str) -> list[str]:
    return [f"{name}.weight", f"{name}.bias"]


def _head(shape: Shape) -> tuple[str, str]:
    """The two layers that make a logit; BERT's first one belongs to the encoder, RoBERTa's to the classifier."""
    return ("classifier.dense", "classifier.out_proj") if shape.roberta else ("pooler.dense", "classifier")


class _Builder:
    def __init__(self, shape: Shape, tensors: Tensors) -> None:
        self._shape = shape
        self._tensors = tensors
        self._prefix = prefix_of(tensors) or ""
        self._graph = Graph()

    def built(self, *, classifies: bool) -> Graph:
        graph, size = self._graph, ["batch", "length"]
        for name in (IDS, MASK, SEGMENTS):
            graph.input(name, "int32", size)
        hidden = self._embedded()
        for layer in range(self._shape.layers):
            hidden = self._layer(layer, hidden)
        if classifies:
            self._classified(hidden)
            graph.output(LOGITS, ["batch", 1])
        else:
            graph.node("Identity", [hidden], HIDDEN)
            graph.output(HIDDEN, [*size, self._shape.hidden])
        return graph

    def _embedded(self) -> str:
        at, graph = "embeddings.", self._graph
        first = self._shape.first_position
        table = self._read(_WORDS)
        words = graph.stored("words", table) if isinstance(table, np.memmap) else graph.constant("words", table)
        positions = graph.constant("positions", self._read(f"{at}position_embeddings.weight")[first:])
        segments = graph.constant("segments", self._read(f"{at}token_type_embeddings.weight"))
        norm = self._norm(f"{at}LayerNorm")
        inputs = [IDS, SEGMENTS, words, positions, segments, *norm]
        attributes = {"epsilon": self._shape.epsilon}
        names = ("embedded", "lengths")  # the second one is not used, but must be there
        return graph.node("EmbedLayerNormalization", inputs, *names, domain=CONTRIB, attributes=attributes)

    def _layer(self, layer: int, hidden: str) -> str:
        at = f"encoder.layer.{layer}."
        words = [f"{at}attention.self.{each}" for each in ("query", "key", "value")]
        weights = np.concatenate([self._read(f"{each}.weight") for each in words]).T
        biases = np.concatenate([self._read(f"{each}.bias") for each in words])
        inputs = [
            hidden,
            self._graph.constant(f"{at}qkv", weights),
            self._graph.constant(f"{at}qkv.bias", biases),
            MASK,
        ]
        attended = self._fused("Attention", inputs, f"{at}attended", num_heads=self._shape.heads)
        hidden = self._added(f"{at}attention.output", attended, hidden)
        activated = self._activated(f"{at}intermediate.dense", hidden)
        return self._added(f"{at}output", activated, hidden)

    def _added(self, at: str, value: str, hidden: str) -> str:
        """A linear layer's result added to what it came from, normalised."""
        product = self._product(f"{at}.dense", value)
        inputs = [product, hidden, *self._norm(f"{at}.LayerNorm"), self._constant(f"{at}.dense.bias")]
        return self._fused("SkipLayerNormalization", inputs, f"{at}.normal", epsilon=self._shape.epsilon)

    def _activated(self, at: str, hidden: str) -> str:
        inputs = [self._product(at, hidden), self._constant(f"{at}.bias")]
        if fused := _ACTIVATIONS.get(self._shape.activation):
            return self._fused(fused, inputs, f"{at}.active")
        return self._graph.node("Relu", [self._graph.node("Add", inputs, f"{at}.sum")], f"{at}.active")

    def _classified(self, hidden: str) -> None:
        """The first token's vector through the two layers of the head."""
        graph = self._graph
        first = graph.node(
            "Gather", [hidden, graph.constant("zero", np.array(0, np.int64))], "first", attributes={"axis": 1}
        )
        dense, out = _head(self._shape)
        bent = graph.node("Tanh", [self._linear(dense, first, f"{dense}.sum")], f"{dense}.active")
        self._linear(out, bent, LOGITS)

    def _linear(self, at: str, value: str, output: str) -> str:
        return self._graph.node("Add", [self._product(at, value), self._constant(f"{at}.bias")], output)

    def _product(self, at: str, value: str) -> str:
        weights = self._graph.constant(f"{at}.weight", self._read(f"{at}.weight").T)
        return self._graph.node("MatMul", [value, weights], f"{at}.product")

    def _norm(self, at: str) -> list[str]:
        return [self._constant(name) for name in _both(at)]

    def _constant(self, name: str) -> str:
        return self._graph.constant(name, self._read(name))

    def _fused(self, operation: str, inputs: list[str], output: str, **attributes: float) -> str:
        return self._graph.node(operation, inputs, output, domain=CONTRIB, attributes=attributes)

    def _read(self, name: str) -> Array:
        inside = self._prefix + name
        return self._tensors.read(inside if self._tensors.shape(inside) is not None else name)
