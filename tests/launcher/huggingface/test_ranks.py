"""Ranks read their own parts of a folder, and say what transformers says of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from configs.schema import DeviceName, Precision
from launcher.huggingface.folder import HuggingFaceFolder
from parallel.layout import Layout
from tests import pretrained
from tests.parallel.engines.megatron.test_parity import name
from tests.pool import RankPool

TOKENS, LENGTH = 12, 9
LAYOUTS = [Layout(), Layout(tensor=2, pipeline=2)]


def answers(folders: dict[str, Path], layout: Layout) -> dict[str, Any]:
    """A job: greedy tokens and the logits after the prompt, of each folder."""
    from parallel.inference.decoding import GREEDY, generate
    from parallel.inference.model import InferenceModel, Rows
    from parallel.runtime.device import Device
    from parallel.runtime.process_groups import process_groups

    device = Device(DeviceName.cpu, torch.device("cpu"), "gloo")
    prompts = pretrained.prompt(LENGTH).tolist()
    found = {}
    with process_groups(layout, 0):
        for case, folder in folders.items():
            weights = HuggingFaceFolder(folder, "").weights()
            shape = weights.shape
            model = InferenceModel(shape, layout, precision=Precision.float32, device=device)
            model.import_weights(
                (at, weights.part(at.name, at.part, tuple(at.shape))) for at in model.parameters()
            )
            tokens = generate(model, prompts, TOKENS, GREEDY, lambda _row, _tokens: False)
            rows = Rows(model, prompts, LENGTH + 1)
            logits = rows.choose(lambda it: it.double(), (len(prompts), shape.vocab))
            found[case] = tokens, logits
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """For each case its folder, and the model that transformers wrote there."""
    folders = {case: tmp_path_factory.mktemp(case) for case in pretrained.CASES}
    return {case: (it, pretrained.write(it, case)) for case, it in folders.items()}


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
def test_tokens_and_logits_are_theirs(
    ranks: RankPool, written: dict[str, tuple[Path, Any]], layout: Layout
) -> None:
    folders = {case: folder for case, (folder, _) in written.items()}
    (found, *others) = ranks.run(layout.world_size, answers, folders, layout)
    for case, (tokens, logits) in found.items():
        model = written[case][1]
        assert tokens == pretrained.greedy(model, LENGTH, TOKENS), case
        with torch.no_grad():
            theirs = model(pretrained.prompt(LENGTH)).logits[:, -1]
        assert (logits - theirs).abs().max() < 1e-4, case
    assert all(other.keys() == found.keys() for other in others)
