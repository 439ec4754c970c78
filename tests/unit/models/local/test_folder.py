"""What a folder holds is known without loading it, and what is wrong with it is said with the file's name."""

import json

import pytest

from antiphon.models.local.folder import model_in, models_in
from antiphon.models.local.safetensors import Broken
from tiny_models import HIDDEN, POSITIONS, random_tensors, write_model, write_modules, write_reranker


def test_an_embedding_model_is_described_by_its_files(tmp_path) -> None:
    folder = write_model(tmp_path / "tiny-embed")
    write_modules(folder, pooling="cls_token", normalize=False)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 12, "do_lower_case": true}')
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    found = model_in(folder)
    assert (found.name, found.kind, found.tokens_max, found.dimension) == ("tiny-embed", "embedding", 12, HIDDEN)
    assert (found.pooling, found.normalized, found.lowercased, found.prompt) == ("cls", False, True, "query: ")


def test_without_the_files_of_sentence_transformers_tokens_are_averaged_to_length_one(tmp_path) -> None:
    found = model_in(write_model(tmp_path / "plain"))
    assert (found.pooling, found.normalized, found.prompt) == ("mean", True, "")
    assert found.tokens_max == POSITIONS


@pytest.mark.parametrize(("said", "holds"), [(10, 10), (10**30, POSITIONS), (512, POSITIONS), (None, POSITIONS)])
def test_the_least_of_all_limits_holds(tmp_path, said, holds) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": said}))
    assert model_in(folder).tokens_max == holds


def test_robertas_positions_begin_behind_the_padding(tmp_path) -> None:
    folder = write_model(
        tmp_path / "m",
        random_tensors("roberta.", first=2),
        model_type="xlm-roberta",
        pad_token_id=1,
        max_position_embeddings=POSITIONS + 2,
    )
    found = model_in(folder)
    assert found.shape is not None
    assert (found.shape.first_position, found.tokens_max) == (2, POSITIONS)


def test_a_cross_encoder_reranks(tmp_path) -> None:
    assert model_in(write_reranker(tmp_path / "tiny-rerank")).kind == "rerank"


def test_a_folder_of_folders_has_several_models(tmp_path) -> None:
    write_model(tmp_path / "b")
    write_reranker(tmp_path / "a")
    (tmp_path / "notes").mkdir()
    assert [found.name for found in models_in(tmp_path)] == ["a", "b"]


def test_what_tensors_alone_cannot_run_is_run_by_its_graph(tmp_path) -> None:
    folder = write_model(tmp_path / "m", model_type="nomic_bert")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"\x08\x08")
    found = model_in(folder)
    assert (found.shape, found.graph) == (None, folder / "onnx" / "model.onnx")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"model_type": "llama"}, "config.json: the architecture 'llama' needs a model.onnx: .* bert, roberta"),
        ({"hidden_act": "swish"}, "config.json: the activation 'swish' is not one of gelu"),
        ({"position_embedding_type": "relative_key"}, "config.json: position embeddings of type 'relative_key'"),
        (
            {"num_hidden_layers": 3},
            r"model.safetensors: the tensor 'encoder.layer.2.\S*' is missing, which config.json",
        ),
        ({"hidden_size": 32}, "config.json: hidden_size 32 fits neither"),
        ({"num_attention_heads": 3}, "config.json: hidden_size 16 fits neither"),
        ({"layer_norm_eps": "small"}, "m: its configuration cannot be understood: could not convert"),
        ({"architectures": 7}, "m: its configuration cannot be understood"),
        ({"hidden_size": None}, "config.json: hidden_size is None where a positive number is needed"),
        (
            {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b"}},
            "config.json: BertForSequenceClassification with 2 labels: a model that reranks has one",
        ),
        ({"architectures": ["BertForSequenceClassification"]}, "config.json: BertForSequenceClassification with 2 lab"),
    ],
)
def test_a_configuration_that_cannot_be_run_is_refused(tmp_path, more, why) -> None:
    with pytest.raises(Broken, match=why):
        model_in(write_model(tmp_path / "m", **more))


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("tokenizer.json", None, "tokenizer.json: it is missing"),
        ("tokenizer.json", b"{}", "tokenizer.json: it describes no tokenizer"),
        ("config.json", b"{", "config.json: it is no JSON"),
        ("config.json", b"[]", "config.json: it is no JSON object"),
        ("model.safetensors", None, "neither .safetensors nor model.onnx"),
        ("model.safetensors", b"version https://git-lfs", "model.safetensors: its header"),
        (
            "modules.json",
            b'[{"type": "x.Dense", "path": "2_Dense"}]',
            "modules.json: the module 'Dense' is not offered",
        ),
        ("1_Pooling/config.json", b'{"pooling_mode_max_tokens": true}', "config.json: pooling by max_tokens"),
        ("1_Pooling/config.json", b'{"pooling_mode": "lasttoken"}', "config.json: pooling by lasttoken"),
        ("1_Pooling/config.json", None, "1_Pooling/config.json: it is missing"),
    ],
)
def test_a_missing_or_broken_file_is_named(tmp_path, file, content, why) -> None:
    folder = write_model(tmp_path / "m")
    write_modules(folder)
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    with pytest.raises(Broken, match=why):
        model_in(folder)


def test_a_graph_that_is_none_is_named(tmp_path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    (folder / "model.onnx").write_bytes(b"version https://git-lfs")
    with pytest.raises(Broken, match=r"model.onnx: it is no ONNX model"):
        model_in(folder)


def test_a_folder_without_a_model_is_named(tmp_path) -> None:
    with pytest.raises(Broken, match="there is no such folder"):
        models_in(tmp_path / "nowhere")
    with pytest.raises(Broken, match="there is no model"):
        models_in(tmp_path)
