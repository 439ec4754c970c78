"""Graphs that are written without the `onnx` package are read by onnxruntime, and compute what they say."""

import numpy as np
import onnxruntime
import pytest

from antiphon.models.local.encoder import FILES
from antiphon.models.local.onnx import CONTRIB, Graph, _varint


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02"), (2**63, b"\x80" * 9 + b"\1")],
)
def test_numbers_are_written_seven_bits_a_byte(value, written) -> None:
    assert _varint(value) == written


def session(graph: Graph) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(FILES, str(graph.folder))
    return onnxruntime.InferenceSession(graph.model(), options, providers=["CPUExecutionProvider"])


def mapped(folder, *shape: int) -> np.memmap:
    """Rising numbers in a file, behind a head of 40 bytes, seen through a link."""
    (folder / "blobs").mkdir()
    numbers = np.arange(np.prod(shape), dtype=np.float32)
    (folder / "blobs" / "numbers").write_bytes(b"h" * 40 + numbers.tobytes())
    (folder / "numbers").symlink_to(folder / "blobs" / "numbers")
    return np.memmap(folder / "numbers", np.float32, mode="r", offset=40, shape=shape)


def test_inputs_constants_attributes_and_outputs_arrive(tmp_path) -> None:
    graph = Graph()
    graph.input("ids", "int32", ["batch", 2])
    found = graph.node(
        "Gather", [graph.stored("table", mapped(tmp_path, 4, 3)), "ids"], "found", attributes={"axis": 0}
    )
    shifted = graph.node("Add", [found, graph.constant("one", np.ones(3, np.float32))], "shifted")
    turned = graph.node("Transpose", [shifted], "turned", attributes={"perm": [0, 2, 1]})
    graph.node("FastGelu", [turned], "bent", domain=CONTRIB)
    graph.node("LeakyRelu", [turned], "out", attributes={"alpha": -2.0})
    graph.output("out", ["batch", 3, 2])
    loaded = session(graph)
    assert [(each.name, each.type, each.shape) for each in loaded.get_inputs()] == [
        ("ids", "tensor(int32)", ["batch", 2])
    ]
    (out,) = loaded.run(None, {"ids": np.array([[1, 3]], np.int32)})
    assert out.tolist() == [[[4.0, 10.0], [5.0, 11.0], [6.0, 12.0]]]


def test_a_stored_constant_is_not_in_the_model(tmp_path) -> None:
    graph = Graph()
    graph.stored("table", mapped(tmp_path, 1000, 100))
    assert len(graph.model()) < 1000
    assert graph.folder == tmp_path / "blobs"
