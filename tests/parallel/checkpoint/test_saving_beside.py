"""A checkpoint that is written while training goes on is that of the moment when it was begun."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from configs.errors import RunError
from configs.schema import EngineConfig
from parallel.checkpoint import manifest
from parallel.layout import Layout
from tests import training
from tests.pool import RankPool
from tests.training import DEEPSPEED, MEGATRON

STEPS, MORE = 3, 3
CASES = [
    (Layout(tensor=2, pipeline=2, micro_batch=2), MEGATRON),
    (Layout(pipeline=2, data=2, micro_batch=2, zero=1), MEGATRON),
    (Layout(data=2, micro_batch=2, zero=3), DEEPSPEED),
    (Layout(tensor=2, data=2, micro_batch=2, zero=2), DEEPSPEED),
]


def save_beside(layout: Layout, config: EngineConfig, folder: str) -> Any:
    """Saves after STEPS in the foreground and, as the engine trains on, beside; goes back too."""

    from parallel.checkpoint.store import CheckpointStore
    from parallel.runtime.process_groups import checkpoint_group

    with training.engine(layout, config=config) as running:
        beside = checkpoint_group()
        waiting = CheckpointStore(Path(folder) / "waiting", None)
        store = CheckpointStore(Path(folder) / "beside", None, beside)
        training.take_steps(running, layout, 1, STEPS)
        state = training.state_of(running, STEPS)
        waiting.save(running, state, keep=0)
        store.begin_save(running, state, keep=0)
        first = training.take_steps(running, layout, STEPS + 1, STEPS + MORE)
        store.finish()
        assert not store.has_failed()
        # The same engine goes back: nothing of the steps since is left in it.
        store.load(running, manifest.step_folder(store.folder, STEPS))
        again = training.take_steps(running, layout, STEPS + 1, STEPS + MORE)
        torch.distributed.destroy_process_group(beside)
        return first, again


def tensors(folder: Path, path: Path) -> dict[str, torch.Tensor]:
    dcp_to_torch_save(manifest.step_folder(folder, STEPS), path)
    read: dict[str, torch.Tensor] = torch.load(path)
    return read


@pytest.mark.parametrize(("layout", "config"), CASES)
def test_the_copy_is_of_the_moment_and_training_can_go_back_to_it(
    ranks: RankPool, tmp_path: Path, layout: Layout, config: EngineConfig
) -> None:
    answers = ranks.run(layout.world_size, save_beside, layout, config, str(tmp_path))
    for first, again in answers:
        assert first == again
    waited = tensors(tmp_path / "waiting", tmp_path / "waiting.pt")
    beside = tensors(tmp_path / "beside", tmp_path / "beside.pt")
    assert waited.keys() == beside.keys()
    for name, tensor in waited.items():
        assert torch.equal(tensor, beside[name]), name


def fail_beside(layout: Layout, folder: str) -> Any:

    from parallel.checkpoint.store import CheckpointStore
    from parallel.runtime.process_groups import checkpoint_group

    with training.engine(layout) as running:
        beside = checkpoint_group()
        store = CheckpointStore(Path(folder) / "checkpoints", None, beside)
        store.save(running, training.state_of(running, 1), keep=0)
        if torch.distributed.get_rank() == 0:
            shutil.move(store.folder, Path(folder) / "elsewhere")
            store.folder.write_text("in the way")
        torch.distributed.barrier()
        store.begin_save(running, training.state_of(running, 2), keep=0)
        try:
            store.finish()
        except RunError as error:
            said = str(error)
        else:
            said = ""
        torch.distributed.destroy_process_group(beside)
        return said


def test_a_save_that_fails_fails_on_every_rank(ranks: RankPool, tmp_path: Path) -> None:
    layout = Layout(tensor=2, micro_batch=4)
    for said in ranks.run(2, fail_beside, layout, str(tmp_path)):
        assert said.startswith("the checkpoint of step 2 was not saved: NotADirectoryError")
        assert "unharmed" in said
    whole = manifest.complete_checkpoints(tmp_path / "elsewhere")
    assert [path.name for path in whole] == ["step_00000001"]
