"""A checkpoint from a stranger: it runs no code, and nothing outside of its folder is touched."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
)

from configs.errors import InputError, RunError
from models.shape import ModelShape, to_json
from parallel.checkpoint import manifest as files
from parallel.checkpoint.io import read
from parallel.checkpoint.manifest import TrainState
from parallel.checkpoint.metadata import METADATA, read_metadata
from parallel.checkpoint.shards import unsharded
from parallel.checkpoint.tensors import read_tensors, write_tensors

SHAPE = ModelShape(layers=1, hidden=8, heads=2, context=4, vocab=10)
NAME = "master.weight"
ONE_FILE = "__0_0.distcp"


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return {NAME: torch.randn(128, 8), "exp_avg.weight": torch.randn(128, 8)}


@pytest.fixture(scope="module")
def whole(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tokenizer.json").write_text("{}")
    state = TrainState(
        step=1,
        samples=1,
        tokens=1,
        seed=1,
        corpus="",
        adam_step=1,
        scaler={},
        model=to_json(SHAPE),
    )
    saved = {name: unsharded(tensor) for name, tensor in tensors.items()}
    return write_tensors(saved, state, folder / "tokenizer.json", folder / "checkpoints")


@pytest.fixture
def checkpoint(whole: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(whole, tmp_path / "checkpoints" / whole.name))


def seal(checkpoint: Path) -> None:
    """The digests of what is there now, as a stranger would write them too."""
    names = [path.name for path in checkpoint.iterdir() if path.name != files.MANIFEST]
    found = {name: files.file_digest(checkpoint / name) for name in names}
    files.write_manifest(checkpoint, found)


class Calls:
    """Calls what it is made of when it is unpickled."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._made_of = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._made_of


def change(checkpoint: Path, how: Callable[[Metadata], Any]) -> None:
    metadata = FileSystemReader(checkpoint).read_metadata()
    made = how(metadata)
    (checkpoint / METADATA).write_bytes(pickle.dumps(metadata if made is None else made))
    seal(checkpoint)


def stored(metadata: Metadata) -> _StorageInfo:
    assert metadata.storage_data is not None
    found: _StorageInfo = next(it for at, it in metadata.storage_data.items() if at.fqn == NAME)
    return found


def refuse(checkpoint: Path, *says: str) -> None:
    with pytest.raises(InputError) as refused:
        read_tensors(checkpoint)
    assert "\n" not in str(refused.value)
    for each in (f"checkpoint={checkpoint}: ", *says):
        assert each in str(refused.value)


def test_what_our_writer_wrote_is_what_torch_reads(whole: Path, tensors: dict[str, Tensor]) -> None:
    torchs, ours = FileSystemReader(whole).read_metadata(), read_metadata(whole)
    assert ours.state_dict_metadata == torchs.state_dict_metadata
    assert ours.storage_data == torchs.storage_data
    found = read_tensors(whole)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    "call",
    [os.system, eval, exec, __import__, getattr, torch.load, pickle.loads, io.open, torch.hub.load],
)
def test_metadata_calls_nothing(checkpoint: Path, tmp_path: Path, call: Callable[..., Any]) -> None:
    mark = tmp_path / "mark"
    commands: dict[Any, str] = {os.system: f"touch {mark}", io.open: str(mark)}
    python = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    change(checkpoint, lambda _: Calls(call, commands.get(call, python), *["w"][: call is io.open]))
    refuse(checkpoint, f"{METADATA} is not that of a checkpoint of tensors (it names ")
    assert not mark.exists()


def test_nor_does_it_where_a_value_should_be(checkpoint: Path, tmp_path: Path) -> None:
    def hide(metadata: Metadata) -> None:
        metadata.planner_data = Calls(os.system, f"touch {tmp_path / 'mark'}")

    change(checkpoint, hide)
    refuse(checkpoint, "system")
    assert not (tmp_path / "mark").exists()


def test_nor_by_the_attributes_of_what_it_may_name(checkpoint: Path) -> None:
    """`torch.Size.mro.__self__...`: protocol 4 follows dots."""
    (checkpoint / METADATA).write_bytes(b"\x80\x04\x8c\x05torch\x8c\x0ehub.os.system.\x93.")
    seal(checkpoint)
    refuse(checkpoint)
    (checkpoint / METADATA).write_bytes(b"ctorch\nSize.__class__\n.")
    seal(checkpoint)
    refuse(checkpoint, "it names torch.Size.__class__")


@pytest.mark.parametrize(
    "state", [b"}X\x01\x00\x00\x00aK\x01s", b"N}X\x05\x00\x00\x00givenK\x01s\x86"]
)
@pytest.mark.parametrize("name", ["torch\nSize", "torch\nfloat32", "pathlib\nPosixPath"])
def test_nor_does_it_change_what_it_names(checkpoint: Path, name: str, state: bytes) -> None:
    (checkpoint / METADATA).write_bytes(b"\x80\x02c" + name.encode() + b"\n" + state + b"b.")
    seal(checkpoint)
    refuse(checkpoint)
    from parallel.checkpoint.metadata import _Size

    assert _Size.given == ()
    assert not hasattr(torch.Size, "a")


def test_what_torchs_planner_would_unpickle_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    content = io.BytesIO()
    torch.save(Calls(os.system, f"touch {tmp_path / 'mark'}"), content)
    (checkpoint / ONE_FILE).write_bytes(content.getvalue())

    def as_bytes(metadata: Metadata) -> None:
        metadata.state_dict_metadata[NAME] = BytesStorageMetadata()
        metadata.storage_data = {
            MetadataIndex(NAME): _StorageInfo(ONE_FILE, 0, len(content.getvalue()))
        }

    change(checkpoint, as_bytes)
    refuse(checkpoint, "BytesStorageMetadata")
    assert not (tmp_path / "mark").exists()


def test_a_tensor_runs_nothing(checkpoint: Path, tmp_path: Path) -> None:
    content = io.BytesIO()
    torch.save(OrderedDict(a=Calls(os.system, f"touch {tmp_path / 'mark'}")), content)
    for path in checkpoint.glob("*.distcp"):
        path.write_bytes(content.getvalue().ljust(path.stat().st_size, b"\0"))

    def there(metadata: Metadata) -> None:
        for at in (metadata.storage_data or {}).values():
            at.offset, at.length = 0, len(content.getvalue())

    change(checkpoint, there)
    refuse(checkpoint, "where a tensor should be, its files hold posix.system")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "..", ""])
def test_nothing_outside_of_the_folder_is_read(checkpoint: Path, name: str) -> None:
    (checkpoint.parent / "secret").write_bytes((checkpoint / ONE_FILE).read_bytes())

    def elsewhere(metadata: Metadata) -> None:
        stored(metadata).relative_path = name

    change(checkpoint, elsewhere)
    refuse(checkpoint, f"it names the file {name!r}")
    shutil.copyfile(checkpoint / ONE_FILE, checkpoint / METADATA)
    manifest = json.loads((checkpoint / files.MANIFEST).read_text())
    manifest["files"][name] = {"bytes": 1, files.XXH3: ""}
    (checkpoint / files.MANIFEST).write_text(json.dumps(manifest))
    refuse(checkpoint, f"no readable {files.MANIFEST} in it (it names the file {name!r})")


@pytest.mark.parametrize("name", [ONE_FILE, METADATA, "tokenizer.json"])
def test_a_link_to_elsewhere_is_not_followed(checkpoint: Path, tmp_path: Path, name: str) -> None:
    (checkpoint / name).rename(tmp_path / "elsewhere")
    (checkpoint / name).symlink_to(tmp_path / "elsewhere")
    refuse(checkpoint, f"{name} is a link to a file elsewhere")


@pytest.mark.parametrize("size", [(10**15,), (1 << 40, 1 << 40), (-1, -1), ("8",), (1 << 70,)])
def test_absurd_sizes_take_no_memory(checkpoint: Path, size: tuple[Any, ...]) -> None:
    class Size:
        def __reduce__(self) -> Any:
            return torch.Size, (size,)

    def enlarge(metadata: Metadata) -> None:
        metadata.state_dict_metadata[NAME].size = Size()  # type: ignore[union-attr]

    change(checkpoint, enlarge)
    refuse(checkpoint, METADATA)


@pytest.mark.parametrize(
    ("key", "value"), [("offset", 1 << 40), ("length", 1 << 62), ("offset", -5), ("length", None)]
)
def test_places_beyond_a_file(checkpoint: Path, key: str, value: int | None) -> None:
    change(checkpoint, lambda metadata: setattr(stored(metadata), key, value))
    refuse(checkpoint, METADATA)


def test_of_a_kind_that_is_not_tensors(checkpoint: Path) -> None:
    made: list[object] = [{}, [], None, "text", TensorProperties(), {"state_dict_metadata": 1}]
    contents = [b"", b"\x80", os.urandom(100), b"((((" * 1000, *map(pickle.dumps, made)]
    for content in contents:
        (checkpoint / METADATA).write_bytes(content)
        seal(checkpoint)
        refuse(checkpoint, METADATA)


def test_what_follows_a_record_that_is_too_short_is_not_taken_for_it(checkpoint: Path) -> None:
    """It would be the memory of this process, or another tensor."""
    records = {}
    for rows in (128, 8):
        torch.save(torch.ones(rows, 8), content := io.BytesIO())
        with zipfile.ZipFile(content) as archive:
            records[rows] = {name: archive.read(name) for name in archive.namelist()}
    says, short = ({name.split("/", 1)[1]: it for name, it in records[n].items()} for n in (128, 8))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content_of in {**says, "data/0": short["data/0"]}.items():
            archive.writestr(f"archive/{name}", content_of)
    name = stored(FileSystemReader(checkpoint).read_metadata()).relative_path
    (checkpoint / name).write_bytes(made.getvalue() + bytes(8192))

    def there(metadata: Metadata) -> None:
        at = stored(metadata)
        at.offset, at.length = 0, len(made.getvalue())
        del metadata.state_dict_metadata["exp_avg.weight"]
        metadata.storage_data = {
            key: it for key, it in (metadata.storage_data or {}).items() if key.fqn == NAME
        }

    change(checkpoint, there)
    tensors = {NAME: torch.full((128, 8), torch.nan)}
    with pytest.raises(RunError):
        read({NAME: unsharded(tensors[NAME])}, checkpoint, [name], alone=True)
    assert tensors[NAME].isnan().all()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"files": []}',
        '{"files": {"a": 1}}',
        '{"files": {"a": {"bytes": "1"}}}',
        "[" * 9999,
    ],
)
def test_a_manifest_that_is_none(checkpoint: Path, content: str) -> None:
    (checkpoint / files.MANIFEST).write_text(content)
    refuse(checkpoint, f"no readable {files.MANIFEST} in it")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"layers": 10**15}, "parameters, and its files have"),
        ({"hidden": 1 << 40}, "parameters, and its files have"),
        ({"heads": 0}, "model.heads is 0"),
        ({"layers": "1"}, "model.layers is '1'"),
        ({"attention": "none"}, "is not a valid AttentionPattern"),
        ({"code": "1"}, "code"),
    ],
)
def test_a_model_that_cannot_be_in_the_files(
    checkpoint: Path, model: dict[str, Any], says: str
) -> None:
    state = json.loads((checkpoint / files.STATE).read_text())
    state["model"] |= model
    (checkpoint / files.STATE).write_text(json.dumps(state))
    seal(checkpoint)
    with pytest.raises(InputError, match=says) as refused:
        files.shape_in(checkpoint)
    assert "\n" not in str(refused.value)


def test_a_pipe_or_a_device_is_no_state(checkpoint: Path) -> None:
    (checkpoint / files.STATE).unlink()
    os.mkfifo(checkpoint / files.STATE)
    with pytest.raises(InputError, match="is not a file"):
        TrainState.read(checkpoint)
    (checkpoint / files.STATE).unlink()
    (checkpoint / files.STATE).symlink_to("/dev/zero")
    with pytest.raises(InputError, match="is not a file"):
        TrainState.read(checkpoint)
