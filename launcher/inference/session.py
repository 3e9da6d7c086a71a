"""Inference with a trained model: finds it, plans for it, and opens it under a layout.

`run_dir=DIR` uses the run's newest checkpoint and its layout; `checkpoint=DIR` any checkpoint, run
or folder in one of Hugging Face's formats. The model's shape is the saved one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import InputError
from configs.override import override
from configs.schema import EngineName, LaunchName, Run, Schedule
from configs.settings.cuda import CudaConfig
from corpus.tokenizer.special_tokens import AskedTokens
from corpus.tokenizer.tokenizer import Tokenizer
from launcher.huggingface.folder import HuggingFaceFolder
from launcher.run.host_memory import context_fault
from launcher.run.resolve import ResolvedRun, resolve
from launcher.run.run_dir import RunFolder
from launcher.run.settings import key_of
from launcher.start.local import require_local, run_ranks
from models.shape import ModelShape
from parallel.checkpoint import manifest

if TYPE_CHECKING:
    from parallel.inference.model import InferenceModel
    from parallel.runtime.device import Device


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where the weights are: a checkpoint of ours, or a folder of Hugging Face's."""

    path: Path
    shape: ModelShape
    folder: HuggingFaceFolder | None = None

    @contextmanager
    def tokenizer(self) -> Iterator[Path]:
        """The path of the model's tokenizer.json, valid inside the block."""
        if self.folder is None:
            yield self.path / manifest.TOKENIZER
            return
        with self.folder.tokenizer() as path:
            yield path


def source_of(run: Run, command: str) -> ModelSource:
    """Raises InputError if no source is given, it holds no complete model, or its tokenizer has
    tokens that the model does not.
    """
    source = _found(run, command)
    if source.folder is not None and command:
        source.folder.require_whole()
    if fault := context_fault(source.shape):
        raise InputError(f"checkpoint={source.path}: {fault}")
    with source.tokenizer() as path:
        tokens = Tokenizer.load(path).size
    if tokens > source.shape.vocab:
        raise InputError(
            f"checkpoint={source.path}: its tokenizer has {tokens:,} tokens, its model knows "
            f"{source.shape.vocab:,}"
        )
    return source


def _found(run: Run, command: str) -> ModelSource:
    given = run.checkpoint or run.run_dir
    if given is None:
        raise InputError(f"checkpoint=null: {command} needs checkpoint=DIR or run_dir=DIR")
    path = Path(given).expanduser().resolve()
    setting = "checkpoint" if run.checkpoint else "run_dir"
    if not path.exists():
        raise InputError(f"{override(setting, given)}: there is no such folder")
    if setting == "run_dir" and not RunFolder(path).has_checkpoint():
        raise InputError(f"{override(setting, given)}: has saved nothing yet")
    if manifest.is_huggingface(path):
        folder = HuggingFaceFolder(path, override(setting, given), AskedTokens.of(run.model))
        return ModelSource(path, folder.shape(), folder)
    checkpoint = manifest.find(path)
    manifest.require_complete(checkpoint)
    if not (checkpoint / manifest.TOKENIZER).exists():
        raise InputError(f"checkpoint={checkpoint}: there is no {manifest.TOKENIZER} in it")
    return ModelSource(checkpoint, manifest.shape_in(checkpoint))


def resolve_inference(
    run: Run, source: ModelSource, command: str, *, data: bool, given: Sequence[str] = ()
) -> ResolvedRun:
    """The ranks that hold the model; `data`: the layout's data-parallel replicas share requests.

    Raises InputError if the layout is invalid.
    """
    experts = source.shape.moe.experts > 0
    layout = replace(
        run.layout,
        data=(run.layout.data or 1) if data else 1,
        context=1,
        context_by=None,
        # Tensor ranks share an expert as they share any MLP, whatever training does.
        expert=1,
        expert_by=None,
        expert_tensor=run.layout.tensor if experts else 1,
        interleave=1,
        schedule=Schedule.standard,
        zero=0,
        # Of no effect here; the rules ask for it where tensor ranks share experts.
        sequence_parallel=experts and run.layout.tensor > 1,
        micro_batch=1,
    )
    engine = replace(run.engine, name=EngineName.megatron, offload_optimizer=False)
    if not any(key_of(each) in ("launch", "launch.name") for each in given):
        # A run that was trained by SLURM or torchrun is asked here all the same.
        launch = replace(run.launch, name=LaunchName.local, node=None, port=None, elastic=False)
        run = replace(run, launch=launch)
    model = replace(run.model, **source.shape.settings())
    # Batches, steps and evaluations belong to training; their rules must not reject inference.
    train = replace(run.train, global_batch=layout.data or 1, async_save=False)
    # FP8 is a format of training's matmuls.
    precision, cuda = run.precision.stored, CudaConfig(layers=run.cuda.layers)
    run = replace(
        run,
        layout=layout,
        engine=engine,
        model=model,
        train=train,
        precision=precision,
        cuda=cuda,
    )
    plan = resolve(replace(run, checkpoint=str(source.path)))
    require_local(plan, command)
    return plan


@contextmanager
def run_inference(plan: ResolvedRun, command: str) -> Iterator[Path]:
    """Runs the ranks of `command` (`launcher.worker`); yields their temporary output folder."""
    with tempfile.TemporaryDirectory(prefix="phalanx-") as scratch:
        folder = RunFolder(Path(scratch))
        folder.write(plan.run, plan.run, "")
        run_ranks(command, folder, plan.layout, plan.run.launch)
        yield folder.path


@contextmanager
def load_model(run: Run, device: Device) -> Iterator[tuple[InferenceModel, Tokenizer]]:
    """This rank's part of the model, with its weights. Collective."""
    import torch

    from parallel.checkpoint.store import CheckpointStore
    from parallel.inference.model import InferenceModel
    from parallel.layout import Layout
    from parallel.runtime.process_groups import process_groups

    source = source_of(run, "")
    with source.tokenizer() as path:
        tokenizer = Tokenizer.load(path)
    layout = Layout.resolve(run.layout, None)
    with process_groups(layout, run.train.seed, run.launch.timeout_s):
        model = InferenceModel(source.shape, layout, precision=run.precision, device=device)
        if source.folder is not None:
            weights = source.folder.weights()
            model.import_weights(
                (at, weights.part(at.name, at.part, tuple(at.shape))) for at in model.parameters()
            )
        else:
            store = CheckpointStore(source.path.parent, None)
            biases = store.load_weights(model, source.path).routers.get("bias")
            model.import_router_bias(None if biases is None else torch.tensor(biases))
        yield model, tokenizer
