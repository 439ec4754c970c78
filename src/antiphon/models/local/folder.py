"""What a folder holds: which model, of which kind, and how its last layer becomes a vector. Read without loading it.

The files are those that `sentence-transformers` and `transformers` write: `config.json`, `tokenizer.json`, weights as
`.safetensors` or as an ONNX graph, and for embeddings `modules.json` with the pooling.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

from antiphon.models.local.bert import ACTIVATIONS, Shape, needed, prefix_of
from antiphon.models.local.safetensors import Broken, Tensors

Pooling = Literal["mean", "cls"]

CONFIG: Final = "config.json"
TOKENIZER: Final = "tokenizer.json"
_GRAPHS: Final = ("model.onnx", "onnx/model.onnx")
_ROBERTAS: Final = ("roberta", "xlm-roberta", "camembert")
_BERTS: Final = ("bert", *_ROBERTAS)
_WIDTHS: Final = ("hidden_size", "dim", "n_embd", "d_model")
_SANE_TOKENS_MAX: Final = 1_000_000
"""Tokenizers that know no limit write 10**30."""


class Folder(Struct, frozen=True, kw_only=True):
    """One model. `graph` is an ONNX file; without one, the graph is built from the tensors, by `shape`."""

    path: Path
    kind: Literal["embedding", "rerank"]
    tokens_max: int
    dimension: int = 1
    shape: Shape | None = None
    graph: Path | None = None
    pooling: Pooling = "mean"
    normalized: bool = False
    lowercased: bool = False
    prompt: str = ""

    @property
    def name(self) -> str:
        """The model's name: its folder's."""
        return self.path.name

    def tensors(self) -> Tensors:
        """The model's weights."""
        return _tensors(self.path)


def models_in(path: Path) -> list[Folder]:
    """The model that the folder is, or those in its sub-folders. Raises `Broken`, also where there is none."""
    if not path.is_dir():
        raise Broken(path, "there is no such folder")
    if _is_model(path):
        return [model_in(path)]
    found = [model_in(each) for each in sorted(path.iterdir()) if each.is_dir() and _is_model(each)]
    if not found:
        raise Broken(path, f"neither it nor a folder in it has a {CONFIG}: there is no model")
    return found


def model_in(path: Path) -> Folder:
    """The model in a folder. Raises `Broken`, naming the file at fault."""
    try:
        return _read(path)
    except (TypeError, ValueError, AttributeError) as error:  # a setting of a type that nobody writes
        raise Broken(path, f"its configuration cannot be understood: {error}") from error


def _read(path: Path) -> Folder:
    settings = _object(path / CONFIG)
    if not _object(path / TOKENIZER).get("model"):
        raise Broken(path / TOKENIZER, "it describes no tokenizer")
    reranks = _classifies(path, settings)
    # The tensors are preferred: their graph is of fused operations, which an exported graph may not be.
    shape = _shape(path, settings, classifies=reranks) if list(path.glob("*.safetensors")) else None
    graph = None if shape else _graph(path)
    known = _limit(path, settings, shape)
    if reranks:
        return Folder(path=path, kind="rerank", tokens_max=known, shape=shape, graph=graph)
    pooling, normalized = _modules(path)
    sentence, prompts = _found(path / "sentence_bert_config.json"), _found(path / "config_sentence_transformers.json")
    return Folder(
        path=path,
        kind="embedding",
        tokens_max=min(known, int(sentence.get("max_seq_length") or known)),
        dimension=_number(path / CONFIG, settings, *_WIDTHS),
        shape=shape,
        graph=graph,
        pooling=pooling,
        normalized=normalized,
        lowercased=bool(sentence.get("do_lower_case")),
        prompt=str((prompts.get("prompts") or {}).get(prompts.get("default_prompt_name"), "")),
    )


def _is_model(path: Path) -> bool:
    return (path / CONFIG).is_file() or any((path / each).is_file() for each in _GRAPHS)


def _classifies(path: Path, settings: dict[str, Any]) -> bool:
    """Whether it is a cross-encoder, which gives a pair of texts one number."""
    names = settings.get("architectures") or [""]
    if not str(names[0]).endswith("ForSequenceClassification"):
        return False
    labels = len(settings.get("id2label") or (0, 1))  # where none are written, `transformers` means two
    if labels != 1:
        raise Broken(path / CONFIG, f"{names[0]} with {labels} labels: a model that reranks has one")
    return True


# ---------------------------------------------------------------- weights


def _shape(path: Path, settings: dict[str, Any], *, classifies: bool) -> Shape | None:
    """What the graph is built by; None where it cannot be, and there is an ONNX graph instead."""
    config, kind, activation = path / CONFIG, settings.get("model_type"), settings.get("hidden_act", "gelu")
    position = settings.get("position_embedding_type", "absolute")
    problem = ""
    if kind not in _BERTS:
        problem = f"the architecture {kind!r} needs a model.onnx: from tensors alone, {', '.join(_BERTS)} can be run"
    elif activation not in ACTIVATIONS:
        problem = f"the activation {activation!r} is not one of {', '.join(ACTIVATIONS)}"
    elif position != "absolute":
        problem = f"position embeddings of type {position!r} are not offered, only 'absolute'"
    if problem:
        if _graphs(path):
            return None
        raise Broken(config, problem)
    roberta, padding = kind in _ROBERTAS, settings.get("pad_token_id")
    shape = Shape(
        hidden=_number(config, settings, "hidden_size"),
        layers=_number(config, settings, "num_hidden_layers"),
        heads=_number(config, settings, "num_attention_heads"),
        activation=activation,
        epsilon=float(settings.get("layer_norm_eps", 1e-12)),
        first_position=(1 if padding is None else int(padding)) + 1 if roberta else 0,
        roberta=roberta,
    )
    _check(path, shape, classifies=classifies)
    return shape


def _check(path: Path, shape: Shape, *, classifies: bool) -> None:
    """That the tensors are there which the configuration promises."""
    tensors = _tensors(path)
    weights, prefix = next(iter(sorted(path.glob("*.safetensors")))), prefix_of(tensors)
    if prefix is None:
        raise Broken(weights, "it has no word embeddings: it is not the model itself, or of another architecture")
    for name in needed(shape, classifies=classifies):
        if tensors.shape(prefix + name) is None and tensors.shape(name) is None:
            raise Broken(weights, f"the tensor {prefix + name!r} is missing, which {CONFIG} promises")
    words = tensors.shape(f"{prefix}embeddings.word_embeddings.weight") or ()
    if words[1:] != (shape.hidden,) or shape.hidden % shape.heads:
        raise Broken(path / CONFIG, f"hidden_size {shape.hidden} fits neither tensors of {words} nor its heads")


def _tensors(path: Path) -> Tensors:
    return Tensors(sorted(path.glob("*.safetensors")))


def _graphs(path: Path) -> list[Path]:
    return [path / each for each in _GRAPHS if (path / each).is_file()]


def _graph(path: Path) -> Path:
    found = _graphs(path)
    if not found:
        raise Broken(
            path, f"it has neither .safetensors nor {' nor '.join(_GRAPHS)}: weights in other forms are not read"
        )
    with found[0].open("rb") as opened:
        if opened.read(1) != b"\x08":  # the field that every ONNX model begins with
            raise Broken(found[0], "it is no ONNX model (perhaps a pointer that Git LFS left)")
    return found[0]


def _limit(path: Path, settings: dict[str, Any], shape: Shape | None) -> int:
    """How many tokens the model can be given."""
    positions = _number(path / CONFIG, settings, "max_position_embeddings", "n_positions")
    if shape is not None and shape.roberta:
        positions -= shape.first_position
    said = _found(path / "tokenizer_config.json").get("model_max_length")
    return min(positions, int(said)) if isinstance(said, (int, float)) and said < _SANE_TOKENS_MAX else positions


# ---------------------------------------------------------------- what comes after the last layer


def _modules(path: Path) -> tuple[Pooling, bool]:
    """How a text's tokens become one vector, and whether its length is made 1."""
    modules = path / "modules.json"
    if not modules.exists():
        return "mean", True
    listed = _json(modules)
    kinds = [(str(each.get("type", "")).rpartition(".")[2], path / str(each.get("path", ""))) for each in listed]
    pooling: Pooling = "mean"
    for kind, place in kinds:
        if kind == "Pooling":
            pooling = _pooling(place / CONFIG)
        elif kind not in ("Transformer", "Normalize", "Dropout"):
            raise Broken(modules, f"the module {kind!r} is not offered, only Transformer, Pooling and Normalize")
    return pooling, any(kind == "Normalize" for kind, _ in kinds)


def _pooling(file: Path) -> Pooling:
    settings = _object(file)
    named = settings.get("pooling_mode")
    chosen = [str(named)] if named else list(_modes(settings))
    if chosen in (["mean"], ["mean_tokens"]):
        return "mean"
    if chosen in (["cls"], ["cls_token"]):
        return "cls"
    raise Broken(file, f"pooling by {' and '.join(chosen) or 'nothing'} is not offered, only by mean or cls token")


def _modes(settings: dict[str, Any]) -> Iterator[str]:
    prefix = "pooling_mode_"
    return (name.removeprefix(prefix) for name, on in settings.items() if name.startswith(prefix) and on is True)


# ---------------------------------------------------------------- JSON


def _found(file: Path) -> dict[str, Any]:
    return _object(file) if file.exists() else {}


def _object(file: Path) -> dict[str, Any]:
    read = _json(file)
    if not isinstance(read, dict):
        raise Broken(file, "it is no JSON object")
    return read


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise Broken(file, "it is missing") from error
    except OSError as error:
        raise Broken(file, f"it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Broken(file, "it is no JSON") from error


def _number(file: Path, settings: dict[str, Any], *names: str) -> int:
    """The first of these settings that is there."""
    name = next((each for each in names if each in settings), names[0])
    value = settings.get(name)
    if not isinstance(value, int) or value < 1:
        raise Broken(file, f"{name} is {value!r} where a positive number is needed")
    return value
