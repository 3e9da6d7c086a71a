from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from configs.errors import InputError
from corpus.dataset.megatron_import import quiet_import
from corpus.store import token_file
from corpus.store.token_file import TokenWriter, check_index, dtype_for, join

with quiet_import():
    from megatron.core.datasets.indexed_dataset import (
        DType,
        IndexedDataset,
        IndexedDatasetBuilder,
    )

DOCUMENTS = [[5, 6, 7], [], [8] * 100, [9]]
END = 0


def write(folder: Path, dtype: np.dtype[np.integer], shards: int = 2) -> Path:
    """All documents, over so many shards."""
    paths, lengths = [], []
    for number in range(shards):
        paths.append(folder / f"{number}.bin")
        with TokenWriter(paths[-1], dtype) as writer:
            for tokens in DOCUMENTS[number::shards]:
                writer.add(np.array(tokens, np.int64), END)
        lengths.append(writer.lengths)
    join(folder / "out", paths, lengths, dtype)
    return folder / "out"


@pytest.mark.parametrize("vocabulary", [300, 70_000])
def test_the_files_are_those_of_megatron_core(tmp_path: Path, vocabulary: int) -> None:
    prefix = write(tmp_path, dtype_for(vocabulary), shards=1)
    builder = IndexedDatasetBuilder(
        str(tmp_path / "theirs.bin"), dtype=DType.optimal_dtype(vocabulary)
    )
    for tokens in DOCUMENTS:
        builder.add_document(np.array([*tokens, END]), [len(tokens) + 1])
    builder.finalize(str(tmp_path / "theirs.idx"))
    for suffix in (".bin", ".idx"):
        ours = Path(f"{prefix}{suffix}").read_bytes()
        assert ours == (tmp_path / f"theirs{suffix}").read_bytes()


def test_shards_follow_one_another(tmp_path: Path) -> None:
    tokens = IndexedDataset(str(write(tmp_path, dtype_for(300))))
    expected = [[*tokens, END] for shard in (0, 1) for tokens in DOCUMENTS[shard::2]]
    assert [tokens[number].tolist() for number in range(len(tokens))] == expected


@pytest.mark.parametrize(("size", "width"), [(50_257, 2), (65_499, 2), (65_500, 4), (70_000, 4)])
def test_tokens_take_two_bytes_if_the_vocabulary_allows(size: int, width: int) -> None:
    assert dtype_for(size).itemsize == width
    assert dtype_for(size) == DType.optimal_dtype(size)


def test_a_document_too_long_for_the_index_ends_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_file, "LONGEST", 50)
    with TokenWriter(tmp_path / "x.bin", dtype_for(300)) as writer:
        writer.add(np.arange(1, 121), None)
        writer.add(np.arange(121, 131), END)
    assert writer.lengths.tolist() == [50, 50, 20, 11]
    written = np.fromfile(tmp_path / "x.bin", np.uint16).tolist()
    assert written == [*range(1, 131), END]


def test_an_index_says_how_many_tokens_there_are(tmp_path: Path) -> None:
    assert check_index(write(tmp_path, dtype_for(300))) == sum(len(d) + 1 for d in DOCUMENTS)


def test_an_index_of_another_file_is_refused(tmp_path: Path) -> None:
    prefix = write(tmp_path, dtype_for(300))
    with Path(f"{prefix}.bin").open("ab") as file:
        file.write(b"xx")
    what = (
        r"out\.idx does not match out\.bin: its documents are 108 tokens of 2 bytes, .* 218 bytes"
    )
    with pytest.raises(InputError, match=what):
        check_index(prefix)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", r"out\.idx, byte 0: is not the index of a token file"),
        (b"GIF89a" + bytes(60), r"out\.idx, byte 0: is not the index"),
        (b"MMIDIDX\0\0" + b"\1" + bytes(7) + b"\x63" + bytes(40), r"byte 17: unknown type .* 99"),
        (b"MMIDIDX\0\0" + b"\1" + bytes(7) + b"\x08" + b"\xff" + bytes(15), r"ends before"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    prefix = write(tmp_path, dtype_for(300))
    Path(f"{prefix}.idx").write_bytes(content)
    with pytest.raises(InputError, match=what):
        check_index(prefix)
