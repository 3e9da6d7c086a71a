"""Reads a checkpoint's `.metadata` safely: it runs no code and refers to no other folder.

torch writes it as a pickle, which may call whatever it names. Here only the names that torch's
own writer uses for tensors are allowed, and they resolve to inert stand-ins that only store their
arguments. torch's objects are built from these after each value has been validated.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from configs.reading import is_plain_name
from parallel.checkpoint.manifest import Damaged

METADATA = ".metadata"
Value = TypeVar("Value")


class _StandIn:
    """An object of the pickle: its constructor arguments and its state."""

    given: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *given: Any) -> _StandIn:
        made = super().__new__(cls)
        made.given = given
        return made

    # With it, pickle's BUILD never sets attributes itself, neither of an object nor of a class.
    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Metadata(_StandIn): ...


class _Tensor(_StandIn): ...


class _Chunk(_StandIn): ...


class _Properties(_StandIn): ...


class _Index(_StandIn): ...


class _Storage(_StandIn): ...


class _Size(_StandIn): ...


class _Unused(_StandIn):
    """Fields that are not needed: layouts, memory formats, where and when it was written."""


_FROM = "torch.distributed.checkpoint"
_KNOWN: dict[tuple[str, str], type[_StandIn]] = {
    (f"{_FROM}.metadata", "Metadata"): _Metadata,
    (f"{_FROM}.metadata", "TensorStorageMetadata"): _Tensor,
    (f"{_FROM}.metadata", "ChunkStorageMetadata"): _Chunk,
    (f"{_FROM}.metadata", "TensorProperties"): _Properties,
    (f"{_FROM}.metadata", "MetadataIndex"): _Index,
    (f"{_FROM}.filesystem", "_StorageInfo"): _Storage,
    ("torch", "Size"): _Size,
    (f"{_FROM}.metadata", "StorageMeta"): _Unused,
    (f"{_FROM}.metadata", "_MEM_FORMAT_ENCODING"): _Unused,
    ("torch.serialization", "_get_layout"): _Unused,
    ("pathlib", "PosixPath"): _Unused,
    ("pathlib._local", "PosixPath"): _Unused,  # its name in Python 3.13
}
"""All names that torch's writer uses for tensors, except dtypes. BytesStorageMetadata is excluded:
torch's planner would unpickle the data it refers to."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(vars(torch).get(name), torch.dtype):
            return vars(torch)[name]
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _KNOWN[module, name]


def read_metadata(checkpoint: Path) -> Metadata:
    """The checkpoint's tensors, and their locations in the files of its folder.

    Raises Damaged if it is anything but what was written for tensors in these files.
    """
    try:
        with (checkpoint / METADATA).open("rb") as file:
            found = _Unpickler(io.BytesIO(file.read())).load()
        metadata = _metadata(found)
        _require_files(checkpoint, metadata)
    except Exception as error:  # a malicious pickle may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Damaged(
            f"checkpoint={checkpoint}: {METADATA} is not that of a checkpoint of tensors ({reason})"
        ) from None
    return metadata


def _metadata(found: Any) -> Metadata:
    fields = _fields(found, _Metadata)
    return Metadata(
        state_dict_metadata=_each(fields["state_dict_metadata"], _text, _tensor),
        storage_data=_each(fields["storage_data"], _index, _storage),
        storage_meta=StorageMeta(),
    )


def _each(found: Any, key: Callable[[Any], Any], value: Callable[[Any], Value]) -> dict[Any, Value]:
    return {key(name): value(it) for name, it in _is(found, dict).items()}


def _tensor(found: Any) -> TensorStorageMetadata:
    fields = _fields(found, _Tensor)
    (dtype, *_) = _is(_is(fields["properties"], _Properties).state, tuple)
    return TensorStorageMetadata(
        properties=TensorProperties(dtype=_is(dtype, torch.dtype)),
        size=_size(fields["size"]),
        chunks=[_chunk(each) for each in _is(fields["chunks"], list)],
    )


def _chunk(found: Any) -> ChunkStorageMetadata:
    fields = _fields(found, _Chunk)
    return ChunkStorageMetadata(offsets=_size(fields["offsets"]), sizes=_size(fields["sizes"]))


def _index(found: Any) -> MetadataIndex:
    fields = _fields(found, _Index)
    index = fields.get("index")
    return MetadataIndex(
        _text(fields["fqn"]),
        _size(fields["offset"]),
        None if index is None else _number(index),
    )


def _storage(found: Any) -> _StorageInfo:
    fields = _fields(found, _Storage)
    name = fields["relative_path"]
    if not is_plain_name(name):
        raise ValueError(f"it names the file {name!r}")
    if fields.get("transform_descriptors"):
        raise ValueError("its files are compressed or otherwise changed")
    return _StorageInfo(name, _number(fields["offset"]), _number(fields["length"]))


def _size(found: Any) -> torch.Size:
    (numbers,) = _is(found, _Size).given
    return torch.Size([_number(each) for each in _is(numbers, tuple)])


def _number(found: Any) -> int:
    if type(found) is not int or not 0 <= found < 1 << 63:
        raise ValueError(f"{found!r} is no size")
    return found


def _text(found: Any) -> str:
    return _is(found, str)


def _fields(found: Any, kind: type[_StandIn]) -> Mapping[str, Any]:
    return _is(_is(found, kind).state, dict)


def _is(found: Any, kind: type[Value]) -> Value:
    if not isinstance(found, kind):
        raise TypeError(f"{type(found).__name__} where {kind.__name__} should be")
    return found


def _require_files(checkpoint: Path, metadata: Metadata) -> None:
    """Checks that all data described lies within the files, so it is no larger than they are."""
    assert metadata.storage_data is not None
    names = {at.relative_path for at in metadata.storage_data.values()}
    sizes = {name: (checkpoint / name).stat().st_size for name in names}
    for at in metadata.storage_data.values():
        if at.offset + at.length > sizes[at.relative_path]:
            raise ValueError(f"{at.relative_path} ends before what should lie there")
    described = sum(
        math.prod(tensor.size) * tensor.properties.dtype.itemsize
        for tensor in metadata.state_dict_metadata.values()
        if isinstance(tensor, TensorStorageMetadata)
    )
    if described > sum(sizes.values()):
        raise ValueError(f"its tensors have {described:,} bytes, its files {sum(sizes.values()):,}")
