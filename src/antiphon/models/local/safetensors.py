"""Tensors of a model's `.safetensors` files: a JSON header, and numbers that stay in the file until they are used."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from antiphon.models.local.onnx import Array

_HEADER_BYTES_MAX: Final = 100_000_000
_TYPES: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1"}


class Broken(Exception):
    """A file of a model's folder is missing, damaged, or asks for something that is not offered here."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}.")


class Tensors:
    """All tensors of some files, by name. Raises `Broken` where a file is not what it should be."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._found: dict[str, tuple[Path, int, dict[str, Any]]] = {}
        for file in files:
            begin, header = _header(file)
            for name, entry in header.items():
                if name != "__metadata__":
                    _check(file, begin, name, entry=entry)
                    self._found[name] = (file, begin, entry)

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """A tensor's shape; None where there is no such tensor."""
        return tuple(self._found[name][2]["shape"]) if name in self._found else None

    def read(self, name: str) -> Array:
        """A tensor as 32-bit floats: the file itself, mapped into memory, where it holds those."""
        file, begin, entry = self._found[name]
        kind, shape = entry["dtype"], tuple(entry["shape"])
        mapped: Array = np.memmap(file, _TYPES[kind], mode="r", offset=begin + entry["data_offsets"][0], shape=shape)
        if kind == "F32":
            return mapped
        numbers = np.asarray(mapped)  # what is made of it lies no longer in the file
        if kind == "BF16":  # the upper half of a 32-bit float
            return (numbers.astype(np.uint32) << 16).view(np.float32)
        return numbers.astype(np.float32)


def _header(file: Path) -> tuple[int, Mapping[str, Any]]:
    """Where the numbers begin, and what says where each tensor is."""
    try:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            if not 2 <= size <= _HEADER_BYTES_MAX:
                raise Broken(file, f"its header of {size} bytes cannot be right")
            header = json.loads(opened.read(size))
    except OSError as error:
        raise Broken(file, f"it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Broken(file, "its header is no JSON: it is cut off, or is no safetensors file") from error
    if not isinstance(header, dict):
        raise Broken(file, "its header is no JSON object")
    return 8 + size, header


def _check(file: Path, begin: int, name: str, *, entry: Any) -> None:
    """That the tensor lies in the file, whole, and in numbers that are known."""
    try:
        kind, (first, end), shape = entry["dtype"], entry["data_offsets"], entry["shape"]
        known = _TYPES.get(kind)
        wanted = int(np.prod(shape, dtype=np.int64)) * np.dtype(known or "u1").itemsize
    except (KeyError, TypeError, ValueError) as error:
        raise Broken(file, f"the header's entry {name!r} cannot be read") from error
    if known is None:
        raise Broken(file, f"the tensor {name!r} has numbers of type {kind}; known are {', '.join(_TYPES)}")
    if end - first != wanted or first < 0:
        raise Broken(file, f"the tensor {name!r} has {end - first} bytes where its shape {shape} needs {wanted}")
    if begin + end > file.stat().st_size:
        raise Broken(file, f"it is cut off: the tensor {name!r} would end at byte {begin + end}")
