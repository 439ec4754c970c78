"""A graph of tensor operations in the format that `onnxruntime` reads, written without the `onnx` package.

A message is a sequence of fields, each a number and a value; the numbers are those of ONNX's published `onnx.proto`.
Only what our graphs need is here.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]
Attributes = Mapping[str, int | float | Sequence[int]]

CONTRIB: Final = "com.microsoft"
"""The domain of onnxruntime's own fused operations."""
_VERSIONS: Final = {"": 17, CONTRIB: 1}
_IR_VERSION: Final = 8
_TYPES: Final = {"float32": 1, "int32": 6, "int64": 7}
_PLAIN, _SIZED, _FLOAT = 0, 2, 5
_EXTERNAL: Final = 1


class Graph:
    """A graph that is being written. Every tensor has a name; an operation's result is named as it says."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._initializers: list[bytes] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []
        self.folder: Path | None = None
        """Where the files of constants are that are not in the model."""

    def input(self, name: str, type: str, shape: Sequence[str | int]) -> str:
        """What is fed at each run; a dimension that differs from run to run has a name."""
        self._inputs.append(_value(name, type, shape))
        return name

    def output(self, name: str, shape: Sequence[str | int]) -> None:
        """What each run returns: 32-bit floats."""
        self._outputs.append(_value(name, "float32", shape))

    def constant(self, name: str, array: Array) -> str:
        """A constant, written into the model."""
        fields = [*_described(name, array), _sized(9, np.ascontiguousarray(array).tobytes())]
        self._initializers.append(b"".join(fields))
        return name

    def stored(self, name: str, array: "np.memmap[Any, Any]") -> str:
        """A constant that stays in its file and is mapped from there: best for large tables that are only looked up.

        All such files lie in one folder.
        """
        file = Path(str(array.filename)).resolve()  # a link would be refused as a way out of the folder
        self.folder = file.parent
        place = {"location": file.name, "offset": str(array.offset), "length": str(array.nbytes)}
        pairs = [_sized(13, _sized(1, key.encode()) + _sized(2, value.encode())) for key, value in place.items()]
        self._initializers.append(b"".join([*_described(name, array), *pairs, _plain(14, _EXTERNAL)]))
        return name

    def node(
        self,
        operation: str,
        inputs: Sequence[str],
        *outputs: str,
        domain: str = "",
        attributes: Attributes | None = None,
    ) -> str:
        """One operation; returns the name of its first result."""
        fields = [_sized(1, name.encode()) for name in inputs] + [_sized(2, name.encode()) for name in outputs]
        fields += [_sized(5, _attribute(name, value)) for name, value in (attributes or {}).items()]
        self._nodes.append(b"".join([*fields, _sized(4, operation.encode()), _sized(7, domain.encode())]))
        return outputs[0]

    def model(self) -> bytes:
        """The whole model."""
        parts = ((1, self._nodes), (5, self._initializers), (11, self._inputs), (12, self._outputs))
        graph = b"".join([_sized(2, b"graph"), *(_sized(number, each) for number, part in parts for each in part)])
        versions = [_sized(8, _sized(1, domain.encode()) + _plain(2, version)) for domain, version in _VERSIONS.items()]
        return b"".join([_plain(1, _IR_VERSION), _sized(7, graph), *versions])


def _value(name: str, type: str, shape: Sequence[str | int]) -> bytes:
    sizes = [_sized(2, each.encode()) if isinstance(each, str) else _plain(1, each) for each in shape]
    tensor = _plain(1, _TYPES[type]) + _sized(2, b"".join(_sized(1, each) for each in sizes))
    return _sized(1, name.encode()) + _sized(2, _sized(1, tensor))


def _described(name: str, array: Array) -> Iterable[bytes]:
    yield from (_plain(1, size) for size in array.shape)
    yield _plain(2, _TYPES[array.dtype.name])
    yield _sized(8, name.encode())


def _attribute(name: str, value: float | Sequence[int]) -> bytes:
    """With the kind of its value: 1 is a float, 2 an integer, 7 a list of integers."""
    if isinstance(value, float):
        field, kind = _key(2, _FLOAT) + struct.pack("<f", value), 1
    elif isinstance(value, int):
        field, kind = _plain(3, value), 2
    else:
        field, kind = b"".join(_plain(8, each) for each in value), 7
    return _sized(1, name.encode()) + field + _plain(20, kind)


def _key(number: int, form: int) -> bytes:
    return _varint(number << 3 | form)


def _plain(number: int, value: int) -> bytes:
    return _key(number, _PLAIN) + _varint(value % (1 << 64))


def _sized(number: int, value: bytes) -> bytes:
    return _key(number, _SIZED) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
