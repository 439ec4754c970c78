"""What a loaded model does with texts: framing, batching, pooling, and what it says when it cannot."""

from pathlib import Path

import numpy as np
import pytest

from antiphon.models.local.encoder import BATCH_TOKENS, Encoder, Model, Window, batches, joined
from antiphon.models.local.folder import model_in
from antiphon.models.local.onnx import Graph
from antiphon.models.local.safetensors import Broken
from tiny_models import HIDDEN, encoded, ids_of, write_model

TEXTS = ["the dog runs", "a big red fish sleeps under the small blue cat", "cat"]


def exported(folder: Path, output: str) -> Encoder:
    """A model as an exporter may write it: 64-bit ids, no segments, and perhaps pooled by itself."""
    graph = Graph()
    graph.input("input_ids", "int64", ["batch", "length"])
    graph.input("attention_mask", "int64", ["batch", "length"])
    table = np.random.default_rng(3).normal(size=(30, HIDDEN)).astype(np.float32)
    rows = graph.node("Gather", [graph.constant("table", table), "input_ids"], "rows", attributes={"axis": 0})
    pooled = output == "sentence_embedding"
    if pooled:
        graph.node("ReduceMean", [rows], output, attributes={"axes": [1], "keepdims": 0})
    else:
        graph.node("Identity", [rows], output)
    graph.output(output, ["batch", HIDDEN] if pooled else ["batch", "length", HIDDEN])
    write_model(folder, model_type="exported")
    (folder / "model.safetensors").unlink()
    (folder / "model.onnx").write_bytes(graph.model())
    return Encoder(model_in(folder))


@pytest.mark.parametrize("output", ["sentence_embedding", "last_hidden_state"])
def test_an_exported_graph_is_fed_what_it_takes_and_pooled_where_it_does_not(tmp_path, output) -> None:
    encoder = exported(tmp_path / "m", output)
    table = np.random.default_rng(3).normal(size=(30, HIDDEN)).astype(np.float32)
    texts = ["the dog runs", "the cat runs"]
    assert np.allclose(encoded(encoder, texts), [table[ids_of(text)[0]].mean(axis=0) for text in texts], atol=1e-6)


def test_a_graph_or_tokenizer_that_cannot_be_loaded_is_named(tmp_path) -> None:
    folder = exported(tmp_path / "m", "last_hidden_state").folder
    (folder.path / "model.onnx").write_bytes(b"\x08 and then nonsense")
    with pytest.raises(Broken, match=r"model.onnx: it cannot be used"):
        Encoder(folder)
    (folder.path / "tokenizer.json").write_text('{"model": {"type": "Unheard"}}')
    with pytest.raises(Broken, match=r"tokenizer.json: it cannot be used"):
        Encoder(folder)


def test_tokens_that_the_model_does_not_know_are_named_as_its_folders_fault(tmp_path) -> None:
    encoder = Encoder(model_in(write_model(tmp_path / "m")))
    with pytest.raises(Broken, match="m: it cannot be used"):
        encoder.run([Window(0, [10_000], [0])])


def test_what_a_text_is_batched_with_does_not_matter(tmp_path) -> None:
    encoder = Encoder(model_in(write_model(tmp_path / "m")))
    together = encoded(encoder, TEXTS)
    assert np.allclose(together, np.concatenate([encoded(encoder, [text]) for text in TEXTS]), atol=1e-5)


def test_a_long_text_is_cut_or_taken_in_windows(tmp_path) -> None:
    encoder = Encoder(model_in(write_model(tmp_path / "m", max_position_embeddings=6)))
    text = "the dog runs over a big red fish"
    cut = encoder.windows(text, 5, whole=False)
    assert [(window.text, window.ids) for window in cut] == [(5, ids_of("the dog runs over")[0])]
    whole = encoder.windows(text, 5, whole=True)
    assert [window.ids for window in whole] == [ids_of(part)[0] for part in ("the dog runs over", "a big red fish")]


def test_texts_are_worded_as_the_model_wants_them(tmp_path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    (folder / "config_sentence_transformers.json").write_text(
        '{"prompts": {"any": "small "}, "default_prompt_name": "any"}'
    )
    (window,) = Encoder(model_in(folder)).windows("THE Dog", 0, whole=False)
    assert window.ids == ids_of("small the dog")[0]


def test_windows_of_like_length_are_run_together_within_bounds() -> None:
    lengths = [5, 300, 7, 256, 5, 256, 256, 256, 600, 6]
    windows = [Window(place, [1] * length, [0] * length) for place, length in enumerate(lengths)]
    found = [[lengths[place] for place in batch] for batch in batches(windows)]
    assert found == [[600], [300], [256, 256], [256, 256], [7, 6, 5, 5]]
    assert all(max(batch) * len(batch) <= BATCH_TOKENS or len(batch) == 1 for batch in found)
    assert sorted(place for batch in batches(windows) for place in batch) == list(range(len(lengths)))


def test_the_windows_of_a_text_are_averaged_by_their_tokens() -> None:
    windows = [Window(0, [1] * 3, [0] * 3), Window(1, [1] * 6, [0] * 6), Window(1, [1] * 2, [0] * 2)]
    rows = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    assert joined(rows, windows).tolist() == [[1.0, 0.0], [0.75, 0.25]]
    assert joined(rows[:1], windows[:1]).tolist() == [[1.0, 0.0]]


def test_a_model_is_loaded_once_and_a_failure_is_not_remembered(tmp_path) -> None:
    model = Model(model_in(write_model(tmp_path / "m")))
    right = (tmp_path / "m" / "tokenizer.json").read_text()
    (tmp_path / "m" / "tokenizer.json").write_text("{}")
    with pytest.raises(Broken):
        model.encoder()
    (tmp_path / "m" / "tokenizer.json").write_text(right)
    assert model.encoder() is model.encoder()
