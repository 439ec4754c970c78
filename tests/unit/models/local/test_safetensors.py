"""Tensors are read from the file they lie in, and a file that is not whole is named."""

import json

import numpy as np
import pytest

from antiphon.models.local.safetensors import Broken, Tensors
from tiny_models import write_safetensors

NUMBERS = np.array([[1.5, -2.0, 0.25], [0.0, 3.0, -0.5]], "<f4")


def test_tensors_are_read_by_name(tmp_path) -> None:
    write_safetensors(tmp_path / "a.safetensors", {"one": NUMBERS, "two": NUMBERS[0]})
    write_safetensors(tmp_path / "b.safetensors", {"three": NUMBERS * 2})
    found = Tensors([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])
    assert sorted(found) == ["one", "three", "two"]
    assert (found.shape("one"), found.shape("two"), found.shape("none")) == ((2, 3), (3,), None)
    assert np.array_equal(found.read("one"), NUMBERS)
    assert np.array_equal(found.read("three"), NUMBERS * 2)


def test_numbers_of_32_bits_stay_in_the_file(tmp_path) -> None:
    write_safetensors(tmp_path / "a.safetensors", {"one": NUMBERS})
    assert isinstance(Tensors([tmp_path / "a.safetensors"]).read("one"), np.memmap)


@pytest.mark.parametrize("kind", ["<f2", "<u2"], ids=["half precision", "bfloat16"])
def test_shorter_numbers_become_32_bits(tmp_path, kind) -> None:
    short = NUMBERS.astype("<f2") if kind == "<f2" else (NUMBERS.view("<u4") >> 16).astype("<u2")
    write_safetensors(tmp_path / "a.safetensors", {"one": short})
    read = Tensors([tmp_path / "a.safetensors"]).read("one")
    assert (read.dtype, isinstance(read, np.memmap)) == (np.float32, False)
    assert np.array_equal(read, NUMBERS)


def described(**entry) -> bytes:
    head = json.dumps({"one": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **entry}}).encode()
    return len(head).to_bytes(8, "little") + head + NUMBERS.tobytes()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "its header of .* bytes cannot be right"),
        (b"", "its header of 0 bytes cannot be right"),
        ((50).to_bytes(8, "little") + b'{"one": ', "no JSON: it is cut off"),
        ((4).to_bytes(8, "little") + b"[1 ]", "no JSON object"),
        (described()[:-1], "cut off: the tensor 'one' would end at byte"),
        (described(dtype="I4"), "'one' has numbers of type I4; known are F64, F32"),
        (described(shape=[2, 4]), r"'one' has 24 bytes where its shape \[2, 4\] needs 32"),
        (described(data_offsets=None), "entry 'one' cannot be read"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path, content, why) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(Broken, match=why) as caught:
        Tensors([file])
    assert str(file) in str(caught.value)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(Broken, match=r"model.safetensors: it cannot be read: No such file"):
        Tensors([tmp_path / "model.safetensors"])
